"""Run in QGIS's own Python by test_pyqgis.py: use the plugin as the desktop does, and print the outcome as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from in_qgis_session import Told, application, plugin, processing, project, registry
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

folder, scene_path, truth_path = map(Path, sys.argv[1:4])
seen = {}


def look(layer):
    """Return what the layer panel shows for a layer."""
    facts = {"name": layer.name(), "renderer": layer.renderer().type(), "crs": layer.crs().authid()}
    if facts["renderer"] == "paletted":
        facts["classes"] = {each.label: each.color.name() for each in layer.renderer().classes()}
    if facts["renderer"] == "categorizedSymbol":
        facts["classes"] = {each.label(): each.symbol().color().name() for each in layer.renderer().categories()}
    if isinstance(layer, QgsVectorLayer):
        facts["features"] = layer.featureCount()
    return facts


def render(layer, size):
    """Return a picture of a whole layer, of the given size."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(size)
    settings.setBackgroundColor(QColor("white"))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    return job.renderedImage()


def checked(name, **parameters):
    """Return what the dialog says before a run, or "" if nothing."""
    context = QgsProcessingContext()
    context.setProject(project)
    return registry.createAlgorithmById(f"geoseg:{name}").checkParameterValues(parameters, context)[1]


# The toolbox
seen["algorithms"] = {
    algorithm.id(): {
        "title": algorithm.displayName(),
        "icon": not algorithm.icon().isNull() and Path(algorithm.svgIconPath()).is_file(),
        "without_help": [each.name() for each in algorithm.parameterDefinitions() if not each.help()],
        "help": algorithm.shortHelpString(),
        "can_run": algorithm.canExecute()[0],
        "tags": algorithm.tags(),
    }
    for algorithm in registry.providerById("geoseg").algorithms()
}
raster_output = registry.algorithmById("geoseg:predict").parameterDefinition("OUTPUT")
vector_output = registry.algorithmById("geoseg:vectorize").parameterDefinition("OUTPUT")
seen["extensions"] = [
    raster_output.supportedOutputRasterLayerExtensions(),
    vector_output.supportedOutputVectorLayerExtensions(),
]
seen["formats"] = registry.providerById("geoseg").supportedOutputRasterLayerFormatAndExtensions()  # since QGIS 4
seen["version"] = registry.providerById("geoseg").versionInfo()
seen["img"] = registry.providerById("geoseg").isSupportedOutputValue("x.img", raster_output, QgsProcessingContext())[0]

# A map, its confidence and polygons, loaded into the project; the file of the polygons has another layer
scene = QgsRasterLayer(str(scene_path), "Szene")
project.addMapLayer(scene)
out = {
    name: str(folder / file)
    for name, file in (("OUTPUT", "karte.tif"), ("CONFIDENCE", "konf.tif"), ("PROBABILITIES", "p.tif"))
}
processing.run(
    "geoseg:vectorize", {"INPUT": str(truth_path), "OUTPUT": str(folder / "flächen.gpkg"), "EXTRA": "--layer other"}
)
told = Told()
out["POLYGONS"] = str(folder / "flächen.gpkg")
found = processing.runAndLoadResults("geoseg:predict", {"INPUT": scene, "MIN_AREA": 25, **out}, feedback=told)
seen["found"], seen["told"] = {name: str(value) for name, value in found.items()}, told.lines
layers = {
    Path(layer.source().partition("|")[0]).name: layer for layer in project.mapLayers().values() if layer is not scene
}
seen["layers"] = {name: look(layer) for name, layer in layers.items()}
landcover = layers["karte.tif"]
render(landcover, QSize(landcover.width(), landcover.height())).save(str(folder / "karte.png"))
render(layers["flächen.gpkg"], QSize(landcover.width(), landcover.height())).save(str(folder / "polygons.png"))

# Other formats of polygons, and a temporary output
for name, output, more in (
    ("geojson", str(folder / "v.geojson"), {"SIMPLIFY": 2}),
    ("temporary", "TEMPORARY_OUTPUT", {}),
):
    before = set(project.mapLayers())
    processing.runAndLoadResults("geoseg:vectorize", {"INPUT": landcover, "OUTPUT": output, **more}, feedback=Told())
    (new,) = set(project.mapLayers()) - before
    seen[name] = look(project.mapLayer(new))

# A page to look at, a page of facts, and the accuracy of a map that is its own reference
pages = {
    "preview": {"INPUT": landcover, "SCENE": scene, "OUTPUT": str(folder / "p.html")},
    "info": {"INPUT": landcover, "OUTPUT": str(folder / "i.html")},
    "evaluate": {"INPUT": landcover, "REFERENCE": landcover, "OUTPUT": str(folder / "same.html")},
}
for name, given in pages.items():
    found = processing.run(f"geoseg:{name}", given, feedback=Told())
    seen[name] = {output: str(value) for output, value in found.items()}

# An extent of another CRS
west, south = 400600.0, 4999450.0
box = QgsRectangle(2.0, 45.0, 2.0, 45.0)
from qgis.core import QgsCoordinateTransform

to_degrees = QgsCoordinateTransform(
    QgsCoordinateReferenceSystem("EPSG:32631"), QgsCoordinateReferenceSystem("EPSG:4326"), project
)
box = to_degrees.transformBoundingBox(scene.extent().buffered(-100))
extent = f"{box.xMinimum()},{box.xMaximum()},{box.yMinimum()},{box.yMaximum()} [EPSG:4326]"
processing.run(
    "geoseg:predict", {"INPUT": scene, "EXTENT": extent, "OUTPUT": str(folder / "part.tif")}, feedback=Told()
)
part = QgsRasterLayer(str(folder / "part.tif"), "part").extent()
seen["part"] = [part.xMinimum(), part.yMinimum(), part.xMaximum(), part.yMaximum()]

# Cancel, and resume
told = Told(cancel_from=5)
start = time.monotonic()
big = {"INPUT": scene, "OUTPUT": str(folder / "canceled.tif"), "EXTRA": "--tile 256"}
context = QgsProcessingContext()
context.setProject(project)
algorithm = registry.createAlgorithmById("geoseg:predict")
results, passed = algorithm.run(big, context, told)
seen["canceled"] = {
    "results": results,
    "told": told.lines,
    "passed": passed,
    "there": (folder / "canceled.tif").exists(),
}
told = Told()
processing.run("geoseg:predict", big, feedback=told)
seen["resumed"] = told.lines

# Layers that are not files, and those without a CRS
web = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=3&zmin=0", "Web", "wms")
bare = QgsRasterLayer(str(folder / "bare.tif"), "Bare")
bare.setCrs(QgsCoordinateReferenceSystem())
project.addMapLayers([web, bare], False)
target = str(folder / "x.tif")
seen["web"] = checked("predict", INPUT=web.id(), OUTPUT=target)
seen["bare"] = checked("predict", INPUT=bare, OUTPUT=target)
seen["far"] = checked("predict", INPUT=scene, OUTPUT=target, EXTENT="0,1,0,1 [EPSG:32631]")
seen["no_reference"] = checked("evaluate", INPUT=landcover, OUTPUT=str(folder / "e.html"))
seen["no_labels"] = checked("train", INPUT=scene, OUTPUT=str(folder / "m.safetensors"))
seen["two_zones"] = checked("tabulate", INPUT=scene, ZONES="a.gpkg", EARLIER=scene, OUTPUT=str(folder / "i.csv"))
seen["two"] = checked("info", INPUT=scene, MODEL="demo", OUTPUT=str(folder / "i.html"))

# A memory layer is exported; only what its filter shows counts
memory = QgsVectorLayer("Polygon?crs=EPSG:32631&field=kind:string", "Parcels", "memory")
for kind, x in (("water", 100.0), ("forest_land", 350.0)):
    feature = QgsFeature(memory.fields())
    feature["kind"] = kind
    corners = [(x, -100), (x + 100, -100), (x + 100, -200), (x, -200)]
    feature.setGeometry(
        QgsGeometry.fromPolygonXY([[QgsPointXY(400000 + east, 5000000 + north) for east, north in corners]])
    )
    memory.dataProvider().addFeature(feature)
memory.updateExtents()
evaluation = {"INPUT": landcover, "REFERENCE_VECTOR": memory, "COLUMN": "kind", "OUTPUT": str(folder / "e.html")}
seen["accuracy"] = {
    name: str(value) for name, value in processing.run("geoseg:evaluate", evaluation, feedback=Told()).items()
}

# Points give areas without an option
points = QgsVectorLayer("Point?crs=EPSG:32631&field=kind:string", "Sample", "memory")
for kind, x in (("water", 150.0), ("forest_land", 400.0), ("water", 160.0)):
    feature = QgsFeature(points.fields())
    feature["kind"] = kind
    feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(400000 + x, 5000000 - 150)))
    points.dataProvider().addFeature(feature)
points.updateExtents()
sampled = {"INPUT": landcover, "REFERENCE_VECTOR": points, "COLUMN": "kind", "OUTPUT": str(folder / "sample.html")}
processing.run("geoseg:evaluate", sampled, feedback=Told())

# A sample is a layer; its classes are filled in as a person would, and stay when points are drawn again
before = set(project.mapLayers())
drawing = {"INPUT": landcover, "PER_CLASS": 4, "SEED": 0, "OUTPUT": str(folder / "punkte.gpkg")}
processing.runAndLoadResults("geoseg:sample", drawing, feedback=Told())
(new,) = set(project.mapLayers()) - before
sample = project.mapLayer(new)
codes = [sample.dataProvider().fields().indexOf("class")]
mapped = {
    feature.id(): {codes[0]: str(int(landcover.dataProvider().sample(feature.geometry().asPoint(), 1)[0]))}
    for feature in sample.getFeatures()
}
seen["sample"] = {
    **look(sample),
    "classes": len({each[codes[0]] for each in mapped.values()}),
    "fields": [each.name() for each in sample.fields()],
}
sample.dataProvider().changeAttributeValues(mapped)
for name, more in (("again", {}), ("open", {"OVERWRITE": True})):
    try:
        processing.run("geoseg:sample", {**drawing, **more}, feedback=Told())
    except Exception as error:
        seen[name] = str(error)
filled = {"INPUT": landcover, "REFERENCE_VECTOR": sample, "OUTPUT": str(folder / "filled.html")}
seen["filled"] = {
    name: str(value) for name, value in processing.run("geoseg:evaluate", filled, feedback=Told()).items()
}
free = str(folder / "free.gpkg")
for _ in range(2):
    processing.run("geoseg:sample", {**drawing, "OVERWRITE": True, "OUTPUT": free}, feedback=Told())
seen["replaced"] = QgsVectorLayer(free, "replaced").featureCount()

# Areas become a table in the project, by polygons or by another map
before = set(project.mapLayers())
counting = {"INPUT": landcover, "ZONES": memory, "COLUMN": "kind", "OUTPUT": str(folder / "areas.gpkg")}
processing.runAndLoadResults("geoseg:tabulate", counting, feedback=Told())
(new,) = set(project.mapLayers()) - before
table = project.mapLayer(new)
seen["areas"] = {"name": table.name(), "rows": [feature.attributeMap() for feature in table.getFeatures()]}
counting = {"INPUT": landcover, "EARLIER": landcover, "OUTPUT": str(folder / "change.csv")}
change = QgsVectorLayer(processing.run("geoseg:tabulate", counting, feedback=Told())["OUTPUT"], "change")
seen["change"] = [feature.attributeMap() for feature in change.getFeatures()]

# Only the selected polygon of a memory layer is mapped; a filter counts too
memory.selectByIds([2])
selected = QgsProcessingFeatureSourceDefinition(memory.id(), selectedFeaturesOnly=True)
project.addMapLayer(memory, False)
processing.run(
    "geoseg:predict", {"INPUT": scene, "AOI": selected, "OUTPUT": str(folder / "selected.tif")}, feedback=Told()
)
saved = {"INPUT": memory, "OUTPUT": str(folder / "parcels.gpkg")}
filtered = QgsVectorLayer(processing.run("native:savefeatures", saved)["OUTPUT"], "Filtered")
filtered.setSubsetString("kind = 'water'")
processing.run(
    "geoseg:predict", {"INPUT": scene, "AOI": filtered, "OUTPUT": str(folder / "filtered.tif")}, feedback=Told()
)

# Errors of the command, and a program that is too old
try:
    processing.run("geoseg:predict", {"INPUT": scene, "OUTPUT": target, "SCALE": "foo"}, feedback=Told())
except Exception as error:
    seen["error"] = str(error)
program = os.environ["GEOSEG_EXECUTABLE"]
old = folder / "old"
old.write_text("#!/bin/sh\necho geoseg, version 0.0.9\n")
old.chmod(0o755)
os.environ["GEOSEG_EXECUTABLE"] = str(old)
try:
    processing.run("geoseg:info", {"INPUT": scene, "OUTPUT": str(folder / "x.html")}, feedback=Told())
except Exception as error:
    seen["old"] = str(error)
os.environ["GEOSEG_EXECUTABLE"] = program

# The settings
from geoseg_qgis import settings
from geoseg_qgis.settings_dialog import SettingsDialog

dialog = SettingsDialog()
seen["dialog"] = {"opened": dialog.answer()}
for name, path in (("missing", "/no/geoseg"), ("works", settings.find_program())):
    dialog._path.setFilePath(path)
    dialog.test()
    seen["dialog"]["testing"] = [each.isEnabled() for each in (dialog._test, dialog._install, dialog._ok)]
    deadline = time.monotonic() + 120
    while not dialog._test.isEnabled() and time.monotonic() < deadline:
        application.processEvents()
        time.sleep(0.05)
    seen["dialog"][name] = dialog.answer()
home = folder / "home of its own"
python = folder / "programs" / "python3.14"  # the first that is looked for; test_command.py installs with a real one
python.parent.mkdir()
python.write_text("#!/bin/sh\ncase $2 in *ensurepip*) echo 3.14;; *) echo Error: no room >&2; exit 1;; esac\n")
python.chmod(0o755)
os.environ.update(HOME=str(home), USERPROFILE=str(home), PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}")
dialog.install()
seen["dialog"]["installing"] = [each.isEnabled() for each in (dialog._test, dialog._install, dialog._ok)]
deadline = time.monotonic() + 120
while not dialog._test.isEnabled() and time.monotonic() < deadline:
    application.processEvents()
    time.sleep(0.05)
seen["dialog"]["installed"] = [dialog.answer(), dialog._install.text(), (home / ".geoseg").exists()]
dialog._path.setFilePath("/no/geoseg")
dialog.accept()
seen["dialog"]["refused"] = [settings.configured(), dialog.answer()]
gone = folder / "gone"
gone.write_text("")
dialog._path.setFilePath(str(gone))
dialog.accept()
seen["dialog"]["set"] = settings.configured()
gone.unlink()
seen["dialog"]["cannot"] = list(registry.algorithmById("geoseg:predict").canExecute())
seen["dialog"]["warning"] = registry.providerById("geoseg").warningMessage()

(folder / "seen.json").write_text(json.dumps(seen, default=str), encoding="utf-8")
project.clear()
plugin.unload()
print("done", flush=True)
