"""Data sets with different legends read as one: the possible classes of each pixel, and invalid mixture files."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geoseg
from geoseg.dataset import PARTS, Dataset, Pair, open_dataset, split
from geoseg.dataset.dataset import published_split
from geoseg.errors import GeosegError, SceneError, UsageError
from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.raster import Window
from tests.dataset.conftest import patchwork, write_raster
from tests.training.mixed import GROUND, MEANT, write_members, write_mixture
from tests.training.tiny import write_picture

ALL = [land_cover.name for land_cover in DEEPGLOBE if land_cover.name != "unknown"]


def names_of(dataset: Dataset, code: int) -> set[str]:
    """Return the classes that a code of a mixture stands for."""
    if code == NODATA:
        return set()
    classes = dict(dataset.sets).get(code, (code,))
    return {dataset.legend.by_code(each).name for each in classes}


def decoded(pair: Pair) -> np.ndarray:
    return pair.decode(pair.whole).codes


def test_each_pixel_may_be_what_its_class_is_said_to_mean(tmp_path: Path) -> None:
    mixture = open_dataset(write_mixture(tmp_path))
    own = open_dataset(tmp_path / "tiles", legend=tmp_path / "ground.json")
    meant = {
        name: set() if value is None else set(ALL) - set(value["not"]) if isinstance(value, dict)
        else {value} if isinstance(value, str) else set(value)
        for name, value in MEANT.items()
    }  # fmt: skip
    for pair in own.pairs:
        theirs, ours = decoded(pair), decoded(mixture.pair(f"tiles/{pair.id}"))
        for code, name in enumerate(GROUND):
            found = np.unique(ours[theirs == code])
            assert len(found) == 1
            assert names_of(mixture, int(found[0])) == meant[name]
    shore = mixture.pair("whole/shore/0")
    assert names_of(mixture, int(decoded(shore)[3, 4])) == {"water", "barren_land"}
    assert len(np.unique(decoded(shore))) == 1


@pytest.mark.parametrize("around_m", [1.0, 6.0, 500.0])
def test_built_up_land_is_what_lies_between_by_brute_force(tmp_path: Path, around_m: float) -> None:
    """The oracle loops over every pixel and its square; any window of the labels gives the same codes."""
    shape, gsd_m = (37, 29), 1.0
    codes = patchwork(shape, len(GROUND), seed=3, patch_px=4)
    codes[patchwork(shape, 3, seed=4, patch_px=5) == 0] = NODATA
    write_raster(tmp_path / "d/images/a.tif", np.zeros((3, *shape), np.uint8) + 9)
    write_raster(tmp_path / "d/labels/a.tif", codes[None], nodata=NODATA)
    (tmp_path / "ground.json").write_text(json.dumps([{"code": c, "name": n} for c, n in enumerate(GROUND)]))
    absorbs = {"rangeland": 1 / 3, "forest_land": 0.5, "null": 0.1}
    built = {"classes": ["roof", "sand"], "target": "urban_land", "around_m": around_m, "absorbs": absorbs}
    member = {"path": "d", "share": 1, "legend": "ground.json", "data_gsd_m": gsd_m, "classes": MEANT}
    plain = open_dataset(write_members(tmp_path / "plain.json", [member]))
    found = open_dataset(write_members(tmp_path / "built.json", [member | {"built_up": built}])).pairs[0]

    half = max(1, round(around_m / gsd_m / 2))
    wanted = decoded(plain.pairs[0])
    least = {"grass": 1 / 3, "trees": 0.5, "cloud": 0.1}  # of a set the class that is absorbed last
    for row, col in product(*map(range, shape)):
        square = codes[max(0, row - half) : row + half + 1, max(0, col - half) : col + half + 1]
        share = np.isin(square, [0, 5]).sum() / max(1, (square != NODATA).sum())
        if codes[row, col] != NODATA and share > least.get(GROUND[codes[row, col]], np.inf):
            wanted[row, col] = 0
    np.testing.assert_array_equal(decoded(found), wanted)
    for window in (Window(0, 0, 5, 29), Window(11, 7, 20, 3), Window(36, 28, 1, 1)):
        np.testing.assert_array_equal(found.decode(window).codes, wanted[window.rows, window.cols])


def test_each_data_set_is_divided_by_its_own_rule(tmp_path: Path) -> None:
    mixture = open_dataset(write_mixture(tmp_path))
    made = split(mixture)
    train, valid = ({area.pair_id for area in part} for part in (made.train, made.valid))
    assert {name.partition("/")[0] for name in train} == {"tiles", "whole"}
    assert {name.partition("/")[0] for name in valid | {area.pair_id for area in made.test}} == {"tiles"}
    assert len(train) == 9 + 1


@pytest.mark.parametrize("prefix", ["", "whole/"])
def test_a_file_of_ids_may_be_that_of_the_data_set_alone(tmp_path: Path, prefix: str) -> None:
    write_mixture(tmp_path)
    ids = [pair.id for pair in open_dataset(tmp_path / "whole").pairs]
    file = tmp_path / "parts.csv"
    file.write_text("".join(f"{prefix}{name},{'valid' if name == ids[0] else 'train'}\n" for name in ids))
    made = split(open_dataset(write_mixture(tmp_path, whole={"split": "parts.csv"})))
    assert [area.pair_id for area in made.valid if area.pair_id.startswith("whole/")] == [f"whole/{ids[0]}"]
    file.write_text("shore/none,train\n")
    with pytest.raises(UsageError, match=r"whole: split .* whole lacks 1 scene of it: shore/none"):
        split(open_dataset(tmp_path / "mixture.json"))


def test_a_folder_of_lists_is_no_rule_where_it_is_named_like_one(tmp_path: Path) -> None:
    names = [pair.id for pair in open_dataset(write_mixture(tmp_path).parent / "whole").pairs]
    for folder, file in (("all", "val.txt"), ("notes", "readme.txt"), ("lists", "val.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("\n".join(names))
    made = {rule: split(open_dataset(write_mixture(tmp_path, whole={"split": rule}))) for rule in ("all", "lists")}
    held_out = {rule: sum(area.pair_id.startswith("whole/") for area in made[rule].valid) for rule in made}
    assert held_out == {"all": 0, "lists": len(names)}
    with pytest.raises(UsageError, match="'notes' is neither a rule nor a file"):
        split(open_dataset(write_mixture(tmp_path, whole={"split": "notes"})))


def test_a_file_of_ids_of_another_data_set_of_the_mixture_is_refused(tmp_path: Path) -> None:
    """Both data sets may have scenes of the same name."""
    for name in ("north", "south"):
        for number in range(3):
            write_raster(tmp_path / name / f"images/{number}.tif", np.full((3, 32, 32), 9, np.uint8))
            write_raster(tmp_path / name / f"labels/{number}.tif", patchwork((32, 32), 2)[None])
    members = [
        {"path": name, "share": 1, "legend": {"0": "land", "1": "water"}, "classes": {"land": "rangeland"}}
        for name in ("north", "south")
    ]
    members[0]["split"] = "parts.csv"
    mixture = write_members(tmp_path / "mixture.json", members)
    file = tmp_path / "parts.csv"
    file.write_text("images/0.tif,valid\nnorth/1,train\n2,train\n")
    assert [area.pair_id for area in split(open_dataset(mixture)).valid] == ["north/0"]
    file.write_text("south/0,valid\nsouth/1,train\n")
    with pytest.raises(UsageError, match=r"north: split .* north lacks 2 scenes of it: south/0, south/1"):
        split(open_dataset(mixture))


def test_folders_without_valid_validate_on_a_share_of_train_in_a_mixture_too(tmp_path: Path) -> None:
    for name in ("north", "south"):
        for number in range(4):
            part = "test" if number == 3 else "train"
            write_raster(tmp_path / name / part / f"images/{number}.tif", np.full((3, 64, 64), 9, np.uint8))
            write_raster(tmp_path / name / part / f"labels/{number}.tif", patchwork((64, 64), 2)[None])
    members = [
        {"path": name, "share": 1, "legend": {"0": "land", "1": "water"}, "classes": {"land": "rangeland"}}
        for name in ("north", "south")
    ]
    mixture = open_dataset(write_members(tmp_path / "mixture.json", members))
    made = split(mixture)
    for part, wanted in (("valid", {"north", "south"}), ("train", {"north", "south"}), ("test", {"north", "south"})):
        assert {area.pair_id.partition("/")[0] for area in made.part(part)} == wanted
    assert [area.pair_id for area in made.test] == ["north/3", "south/3"]
    with pytest.raises(UsageError, match="use mixture"):
        split(mixture, "folders")


def test_the_published_split_of_deepglobe_divides_it_in_a_mixture_too(tmp_path: Path) -> None:
    ids = {part: next(name for name, of in published_split().items() if of == part) for part in PARTS}
    for name in ids.values():
        (tmp_path / "d").mkdir(exist_ok=True)
        write_picture(tmp_path / "d" / f"{name}_sat.jpg", np.full((32, 32, 3), 99))
        write_picture(tmp_path / "d" / f"{name}_mask.png", np.full((32, 32, 3), 255))
    made = split(open_dataset(write_members(tmp_path / "m.json", [{"path": "d", "share": 1, "split": "published"}])))
    assert {part: [area.pair_id for area in made.part(part)] for part in PARTS} == {
        part: [f"d/{name}"] for part, name in ids.items()
    }


def test_what_is_held_out_may_all_validate(tmp_path: Path) -> None:
    made = split(open_dataset(write_mixture(tmp_path, tiles={"split": "random:0.4", "valid_share": 1})))
    assert (len(made.valid), len(made.test)) == (2, 0)


def test_another_mapping_or_share_is_another_data_set(tmp_path: Path) -> None:
    one = open_dataset(write_mixture(tmp_path)).digest
    assert open_dataset(write_mixture(tmp_path)).digest == one
    for changed in ({"share": 0.5}, {"classes": MEANT | {"sand": "rangeland"}}, {"gsd_m": [0.4, 1.0]}):
        assert open_dataset(write_mixture(tmp_path, tiles=changed)).digest != one


def test_a_table_says_the_same_as_json(tmp_path: Path) -> None:
    as_json = open_dataset(write_mixture(tmp_path))
    members = json.loads((tmp_path / "mixture.json").read_text(encoding="utf-8"))["datasets"]
    for name in ("classes", "weights"):
        for place, member in enumerate(members):
            if name in member:
                (tmp_path / f"{name}{place}.json").write_text(json.dumps(member[name]), encoding="utf-8")
    rows = ["path;share;gsd_m;legend;classes;split;data_gsd_m;mosaic;weights"]
    rows += [
        'tiles;0.6;.4 +1.2;ground.json;classes0.json;"""random:0.6""";;;',
        "whole;0.4;[0.5, 0.8];;classes1.json;;0.5;4;weights1.json",
    ]
    (tmp_path / "mixture.csv").write_text("\n".join(rows), encoding="utf-8")
    as_table = open_dataset(tmp_path / "mixture.csv", legend="deepglobe")
    assert (as_table.members, as_table.sets, as_table.pairs) == (as_json.members, as_json.sets, as_json.pairs)


def test_numbers_in_a_table_may_be_names_of_folders_and_bands(tmp_path: Path) -> None:
    for year in ("2019", "2020"):
        write_raster(tmp_path / year / "images/a.tif", np.arange(3, dtype=np.uint8)[:, None, None].repeat(8, 2) + 1)
        write_raster(tmp_path / year / "labels/a.tif", np.zeros((1, 1, 8), np.uint8))
    (tmp_path / "water.json").write_text('{"class 0": "water"}')
    table = "path;share;classes;bands;name\n2019;1;water.json;3 2 1;\n2020;1;water.json;3 2 1;7\n"
    (tmp_path / "years.csv").write_text(table)
    found = open_dataset(tmp_path / "years.csv", legend="deepglobe")
    assert [pair.id for pair in found.pairs] == ["2019/a", "7/a"]
    assert [pair.scene.read(pair.whole).data[:, 0, 0].tolist() for pair in found.pairs] == [[3, 2, 1]] * 2


def test_folders_of_images_are_labels(tmp_path: Path) -> None:
    write_mixture(tmp_path)
    found = open_dataset(tmp_path / "whole")
    assert found.legend.names == ("ploughed", "shore", "woods")
    assert [pair.id for pair in found.pairs][:4] == ["ploughed/0", "ploughed/1", "ploughed/2", "shore/0"]
    for pair in found.pairs:
        assert (decoded(pair) == found.legend.by_name(pair.id.partition("/")[0]).code).all()
    (tmp_path / "whole").rename(tmp_path / "train")
    (tmp_path / "valid/woods").mkdir(parents=True)
    (tmp_path / "train/woods/0.jpg").rename(tmp_path / "valid/woods/0.jpg")
    (tmp_path / "divided").mkdir()
    for part in ("train", "valid"):
        (tmp_path / part).rename(tmp_path / "divided" / part)
    made = split(open_dataset(tmp_path / "divided"))
    assert (len(made.train), [area.pair_id for area in made.valid]) == (8, ["valid/woods/0"])


def test_a_table_may_say_the_class_of_each_image(tmp_path: Path) -> None:
    write_mixture(tmp_path)
    lines = ["scene,class,split"]
    for name, number in product(("woods", "shore"), range(3)):
        lines.append(f"whole/{name}/{number}.jpg,{name.upper()},{'valid' if number == 2 else 'train'}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    with pytest.raises(SceneError, match="occurs twice"):  # 0 of woods and 0 of shore
        open_dataset(tmp_path / "table.csv")
    numbered = [lines[0] + ",id", *(f"{line},{place}" for place, line in enumerate(lines[1:]))]
    (tmp_path / "table.csv").write_text("\n".join(numbered))
    found = open_dataset(tmp_path / "table.csv")
    assert found.legend.names == ("SHORE", "WOODS")
    assert [decoded(pair).max() for pair in found.pairs] == [1, 1, 1, 0, 0, 0]
    assert len(split(found).valid) == 2


def test_a_mixture_in_the_folder_of_its_data_has_the_folder_s_name(tmp_path: Path) -> None:
    write_mixture(tmp_path)
    member = {"path": ".", "share": 1, "legend": "../ground.json", "classes": MEANT}
    found = open_dataset(write_members(tmp_path / "tiles" / "mixture.json", [member]))
    assert {pair.id.partition("/")[0] for pair in found.pairs} == {"tiles"}


BAD: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "a class the data set lacks": ({"tiles": {"classes": MEANT | {"rooof": "water"}}}, "no class 'rooof'.*'roof'"),
    "an unknown target": ({"tiles": {"classes": MEANT | {"roof": "urbn_land"}}}, "roof: .*'urbn_land'.*urban_land"),
    "an empty set": ({"tiles": {"classes": MEANT | {"roof": []}}}, "roof: this leaves no class; write null"),
    "all barred": ({"tiles": {"classes": MEANT | {"roof": {"not": ALL}}}}, "roof: this leaves no class; write null"),
    "no meaning": ({"tiles": {"classes": MEANT | {"roof": 3}}}, "a class maps to a name, .*, got 3"),
    "not and more": ({"tiles": {"classes": MEANT | {"roof": {"not": "water", "or": 1}}}}, "a class maps to a name"),
    "unsaid": ({"tiles": {"classes": {"roof": "water"}}}, "nothing is given for field, grass, trees, lake"),
    "all null": ({"tiles": {"classes": dict.fromkeys(GROUND)}}, "every class maps to null"),
    "no share": ({"tiles": {"share": "-"}}, "data set tiles has no share"),
    "a share of nothing": ({"tiles": {"share": 0}}, "share must be a number .*, got 0"),
    "a share of words": ({"tiles": {"share": "half"}}, "share must be a number .*, got 'half'"),
    "a share beyond all numbers": ({"tiles": {"share": 10**400}}, "share must be a number"),
    "a share that is no number": ({"tiles": {"share": float("nan")}}, "share must be a number"),
    "sizes the wrong way round": ({"tiles": {"gsd_m": [2, 1]}}, "finest, then the coarsest pixel size, got 2 and 1"),
    "three sizes": ({"tiles": {"gsd_m": [1, 2, 3]}}, "the finest and the coarsest"),
    "an unknown entry": ({"tiles": {"weight": 3}}, "unknown key 'weight' .did you mean 'weights'"),
    "no such folder": ({"tiles": {"path": "tils"}}, "data set tils: .*no such file or folder"),
    "an empty path": ({"tiles": {"path": " "}}, "data set 1: path is empty"),
    "neither path nor landscapes": ({"tiles": {"path": "-"}}, "give a path, or synthetic"),
    "weights of labels per pixel": ({"tiles": {"weights": {"roof": 2}}}, "weights are for images with one label each"),
    "weights of nobody": ({"whole": {"weights": {"wood": 2}}}, "no class 'wood' .did you mean 'woods'"),
    "all weights nothing": ({"whole": {"weights": {"woods": 0, "shore": 0, "ploughed": 0}}}, "every class has weight"),
    "a mosaic of none": ({"whole": {"mosaic": 0}}, "mosaic must be a whole number 1 to 64, got 0"),
    "a name with a slash": ({"whole": {"name": "a/b"}}, "a name must be one line without a slash"),
    "one name twice": ({"whole": {"name": "tiles"}}, "two data sets are named 'tiles'"),
    "built of nothing": ({"tiles": {"built_up": []}}, "name the classes that fill"),
    "built of nobody": ({"tiles": {"built_up": ["house"]}}, "built_up: the labels have no class 'house'"),
    "built into nothing": ({"tiles": {"built_up": {"classes": "roof", "target": "town"}}}, "no class 'town'"),
    "absorbs nobody": ({"tiles": {"built_up": {"classes": "roof", "absorbs": {"x": 1}}}}, "legend has no class 'x'"),
    "more than all": ({"tiles": {"valid_share": 2}}, "valid_share must be a number 0.01 to 1, got 2"),
    "a share of strays in words": ({"tiles": {"tolerance": "few"}}, "tolerance must be a number 0 to 1, got 'few'"),
    "a pixel size in words": ({"tiles": {"data_gsd_m": "small"}}, "data_gsd_m must be a number"),
    "a negative pixel size": ({"tiles": {"data_gsd_m": -1}}, "data_gsd_m must be a number .*, got -1"),
    "bands of no kind": ({"tiles": {"bands": {"red": 1}}}, "bands must be names or numbers, got {'red': 1}"),
    "a layer of no kind": ({"tiles": {"layer": [1.5]}}, "layer must be names or numbers"),
    "a layer of rasters": ({"tiles": {"layer": "north"}}, "data set tiles: layer is for label polygons"),
    "a legend that is none": ({"tiles": {"legend": 3}}, "legend must be text, got 3"),
    "classes that are none": ({"tiles": {"legend": [3]}}, "data set tiles: "),
    "labels that are none": ({"tiles": {"labels": 3}}, "labels must be text, got 3"),
    "a mixture in itself": ({"tiles": {"path": "mixture.json"}}, "data set mixture: .* is itself a mixture"),
    "a rule that is none": ({"tiles": {"split": "rndom:0.5"}}, "tiles: .*rndom:0.5.* is neither a rule"),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "wanted"), BAD.values(), ids=BAD)
def test_a_mixture_that_cannot_be_meant_gets_one_clear_line(
    tmp_path: Path, changed: dict[str, dict[str, Any]], wanted: str
) -> None:
    with pytest.raises(GeosegError, match=wanted) as fault:
        split(open_dataset(write_mixture(tmp_path, **changed)))
    assert not {"\n", "`"} & {*str(fault.value)}  # a mixture has entries, not parameters


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{", "is not valid JSON"),
        ("[1, 2]", "a mixture is"),
        ('{"datasets": []}', "names no data set"),
        ('{"datasets": [3]}', "data set 1: give an object"),
        ('{"data": [], "datasets": []}', "unknown key 'data'"),
        ('{"datasets": [{"path": "tiles", "share": 1}]}', "names no legend"),
        (
            '{"legend": "none.json", "datasets": [{"path": "tiles", "share": 1}]}',
            "bad.json: legend: .*none.json cannot be read",
        ),
        ('{"legend": "deepglobe", "legend": 3, "datasets": []}', "'legend' occurs twice"),
    ],
)
def test_a_file_that_is_no_mixture_gets_one_clear_line(tmp_path: Path, text: str, wanted: str) -> None:
    write_mixture(tmp_path)
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=wanted):
        open_dataset(tmp_path / "bad.json")


def test_a_legend_in_a_mixture_is_read_as_in_a_file_of_its_own(tmp_path: Path) -> None:
    file = write_mixture(tmp_path)
    members = json.loads(file.read_text(encoding="utf-8"))["datasets"]
    ground = json.loads((tmp_path / "ground.json").read_text(encoding="utf-8"))
    wanted = open_dataset(file)
    for legend in (ground, {str(row["code"]): row["name"] for row in ground}):
        inside = [{**member, "legend": legend} if "legend" in member else member for member in members]
        found = open_dataset(write_members(tmp_path / "inside.json", inside))
        assert (found.legend, found.sets, len(found.pairs)) == (wanted.legend, wanted.sets, len(wanted.pairs))
    names = [{"code": code, "name": name} for code, name in enumerate(geoseg.DEEPGLOBE.names)]
    assert open_dataset(write_members(tmp_path / "top.json", members, names)).legend.names == wanted.legend.names


def test_imagery_of_another_kind_does_not_mix(tmp_path: Path) -> None:
    file = write_mixture(tmp_path)
    for number in range(2):
        write_raster(tmp_path / f"deep/images/{number}.tif", np.ones((4, 20, 20), np.uint16))
        write_raster(tmp_path / f"deep/labels/{number}.tif", patchwork((20, 20), 3)[None])
    members = json.loads(file.read_text(encoding="utf-8"))["datasets"]
    deep = {"path": "deep", "share": 1, "classes": {"class 0": "water", "class 1": None, "class 2": None}}
    with pytest.raises(SceneError, match=r"has [34] bands.*has [34]"):
        open_dataset(write_members(tmp_path / "deep.json", [*members, deep]))


def test_one_folder_of_images_has_nothing_to_tell_apart(tmp_path: Path) -> None:
    write_mixture(tmp_path)
    for name in ("shore", "ploughed"):
        for path in (tmp_path / "whole" / name).iterdir():
            path.unlink()
        (tmp_path / "whole" / name).rmdir()
    with pytest.raises(SceneError, match="images of only one class, woods, so there is nothing to distinguish"):
        open_dataset(tmp_path / "whole")
