"""Run in QGIS's own Python by test_layers.py: layers of every kind in and out, and what the dialog says of them."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

from in_qgis_session import Told, classFactory, plugin, processing, project, registry
from processing.core.ProcessingConfig import ProcessingConfig
from processing.gui.RenderingStyles import RenderingStyles
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsField,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterRasterLayer,
    QgsRasterLayer,
    QgsRasterRange,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsVectorLayerJoinInfo,
)
from qgis.PyQt.QtCore import QCoreApplication, QEvent, QVariant
from qgis.PyQt.QtWidgets import QAction, QDialog, QMainWindow

folder, scene_path, truth_path = map(Path, sys.argv[1:4])
seen = {}
scene, truth = QgsRasterLayer(str(scene_path), "Scene"), QgsRasterLayer(str(truth_path), "Truth")
project.addMapLayers([scene, truth])
context = QgsProcessingContext()
context.setProject(project)
extent = truth.extent()
west, north = extent.xMinimum(), extent.yMaximum()


def parcels(name, kinds=("water", "forest_land"), fields="", crs="EPSG:32631"):
    """Return a memory layer with a square of 20 m for each kind."""
    layer = QgsVectorLayer(f"Polygon?crs={crs}{fields}&field=kind:string", name, "memory")
    for at, kind in enumerate(kinds):
        feature = QgsFeature(layer.fields())
        feature["kind"] = kind
        box = QgsRectangle(west + 30 * at, north - 20, west + 30 * at + 20, north)
        feature.setGeometry(QgsGeometry.fromRect(box))
        layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    project.addMapLayer(layer, False)
    return layer


def save(layer, path, name="parcels", *, more=False):
    """Write a layer to a file."""
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName, options.layerName = QgsVectorFileWriter.driverForExtension(path.suffix), name
    if more:
        options.actionOnExistingFile = QgsVectorFileWriter.CreateOrOverwriteLayer
    QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), project.transformContext(), options)


def opened(source, name="Parcels"):
    layer = QgsVectorLayer(source, name, "ogr")
    assert layer.isValid(), source
    project.addMapLayer(layer, False)
    return layer


def prepared(name, **given):
    """Return an algorithm that has looked at its layers, and what it told."""
    algorithm, told = registry.createAlgorithmById(f"geoseg:{name}"), Told()
    passed, message = algorithm.checkParameterValues(given, context)
    assert passed, message
    assert algorithm.prepareAlgorithm(given, context, told)
    return algorithm, told


def passed_on(given):
    """Return the file, features, fields and CRS that geoseg gets for a vector layer."""
    parameters = {"INPUT": truth, "ZONES": given, "OUTPUT": "TEMPORARY_OUTPUT"}
    algorithm, _ = prepared("tabulate", **parameters)
    path, inside = algorithm.vector(parameters, "ZONES", context, Told())
    layer = QgsVectorLayer(f"{path}|layername={inside}" if inside else path, "x", "ogr")
    return {
        "path": path,
        "features": layer.featureCount(),
        "crs": layer.crs().authid(),
        "fields": [each.name() for each in layer.fields()],
        "kinds": [each["kind"] for each in layer.getFeatures()],
        "wkt": [each.geometry().asWkt() for each in layer.getFeatures()],
    }


def refused(name, **given):
    """Return what the dialog or the run says; None if all is well."""
    try:
        processing.run(f"geoseg:{name}", given, feedback=Told())
    except Exception as error:
        return str(error)
    return None


def checked(name, **given):
    return registry.createAlgorithmById(f"geoseg:{name}").checkParameterValues(given, context)[1]


def loaded(name, **given):
    """Run an algorithm and return its results, and the layers that are new in the project."""
    before = set(project.mapLayers())
    results = processing.runAndLoadResults(name, given, feedback=Told())
    new = [project.mapLayer(each) for each in set(project.mapLayers()) - before]
    return results, {each.name(): each for each in new}


# Vector layers that show something else than their file
gpkg = folder / "parcels.gpkg"
save(parcels("M"), gpkg)
save(parcels("Two", ("rangeland",)), gpkg, "second, of two", more=True)
plain = opened(f"{gpkg}|layername=parcels")
vectors = {"plain": passed_on(plain)}
plain.startEditing()
plain.deleteFeature(1)
vectors["edited"] = passed_on(plain)
plain.rollBack()
virtual = opened(f"{gpkg}|layername=parcels")
virtual.addExpressionField("kind || '!'", QgsField("virtual", QVariant.String))
vectors["virtual"] = passed_on(virtual)
table = QgsVectorLayer("NoGeometry?field=kind:string&field=owner:string", "Owners", "memory")
owner = QgsFeature(table.fields())
owner.setAttributes(["water", "Anna"])
table.dataProvider().addFeature(owner)
project.addMapLayer(table, False)
joined, join = opened(f"{gpkg}|layername=parcels"), QgsVectorLayerJoinInfo()
join.setJoinLayer(table)
join.setJoinFieldName("kind")
join.setTargetFieldName("kind")
join.setUsingMemoryCache(True)
joined.addJoin(join)
vectors["joined"] = passed_on(joined)
moved = opened(f"{gpkg}|layername=parcels")
moved.setCrs(QgsCoordinateReferenceSystem("EPSG:32632"))
vectors["moved"] = passed_on(moved)
vectors["by number"] = passed_on(opened(f"{gpkg}|layerid=1"))
vectors["comma"] = passed_on(opened(f"{gpkg}|layername=second, of two"))
vectors["unnamed"] = passed_on(opened(str(gpkg)))
vectors["limit"] = passed_on(QgsProcessingFeatureSourceDefinition(plain.id(), featureLimit=1))
corners = [[west, north], [west + 20, north], [west + 20, north - 20], [west, north - 20], [west, north]]
geometries = [{"type": "Polygon", "coordinates": [corners]}, {"type": "Point", "coordinates": corners[0]}]
features = [{"type": "Feature", "properties": {"kind": "water"}, "geometry": each} for each in geometries]
crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
mixed = folder / "mixed.geojson"
mixed.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}), encoding="utf-8")
vectors["mixed"] = passed_on(opened(f"{mixed}|geometrytype=Polygon"))
save(parcels("Shape", ("Straße",)), folder / "shape.shp")
(folder / "shape.cpg").unlink()  # geoseg would guess another encoding than QGIS
vectors["encoded"] = passed_on(opened(str(folder / "shape.shp")))
repeated = parcels("Merged", fields="&field=fid:integer")
repeated.startEditing()
for feature in repeated.getFeatures():
    repeated.changeAttributeValue(feature.id(), 0, 7)
repeated.commitChanges()
vectors["repeated"] = passed_on(repeated)
curve = QgsVectorLayer("CurvePolygon?crs=EPSG:32631&field=kind:string", "Curve", "memory")
round_one = QgsFeature(curve.fields())
places = [(west, north - 10), (west + 10, north), (west + 20, north - 10), (west + 10, north - 20), (west, north - 10)]
round_one.setGeometry(
    QgsGeometry.fromWkt(f"CURVEPOLYGON(CIRCULARSTRING({','.join(f'{east} {up}' for east, up in places)}))")
)
curve.dataProvider().addFeature(round_one)
project.addMapLayer(curve, False)
vectors["curve"] = passed_on(curve)
seen["vectors"] = vectors
digests = [hashlib.sha256(Path(passed_on(repeated)["path"]).read_bytes()).hexdigest() for _ in range(2)]
seen["same bytes"] = digests[0] == digests[1]

# Vector layers that geoseg cannot take
zones = {"INPUT": truth, "OUTPUT": "TEMPORARY_OUTPUT"}
plain.removeSelection()
selected = QgsProcessingFeatureSourceDefinition(plain.id(), selectedFeaturesOnly=True)
seen["nothing selected"] = checked("tabulate", ZONES=selected, **zones)
seen["table"] = checked("tabulate", ZONES=table, **zones)
twice = parcels("Twice", fields="&field=KIND:string(9)")
seen["twice"] = refused("tabulate", ZONES=twice, COLUMN="kind", **zones)
seen["no column"] = refused("tabulate", ZONES=parcels("My parcels", fields="&field=other:integer"), **zones)

# Rasters: in an archive, without a CRS in the file, with another one in QGIS
with zipfile.ZipFile(folder / "two.zip", "w") as archive:
    archive.write(truth_path, "truth.tif")
    archive.write(scene_path, "scene.tif")
zipped = QgsRasterLayer(f"/vsizip/{folder / 'two.zip'}/scene.tif", "Zipped")
optioned = QgsRasterLayer(f"{scene_path}|option:NUM_THREADS=2", "Optioned")
project.addMapLayers([zipped, optioned], False)
seen["zipped"] = prepared("info", INPUT=zipped, OUTPUT="x.html")[0].raster("INPUT")
seen["optioned"] = prepared("info", INPUT=optioned, OUTPUT="x.html")[0].raster("INPUT")
bare = QgsRasterLayer(str(folder / "bare.tif"), "Bare")
bare.setCrs(QgsCoordinateReferenceSystem("EPSG:32631"))
other = QgsRasterLayer(str(scene_path), "Elsewhere")
other.setCrs(QgsCoordinateReferenceSystem("EPSG:32632"))
other.dataProvider().setUserNoDataValue(1, [QgsRasterRange(0, 9)])
project.addMapLayers([bare, other], False)
seen["bare"] = checked("predict", INPUT=bare, OUTPUT=str(folder / "x.tif"))
seen["about bare"] = checked("info", INPUT=bare, OUTPUT=str(folder / "x.html"))
seen["elsewhere"] = prepared("predict", INPUT=other, OUTPUT=str(folder / "x.tif"))[1].lines

# Errors before and after the command reads its options
seen["no model"] = refused("info", MODEL=str(folder / "none.onnx"), OUTPUT=str(folder / "i.html"))
vectorizing = {"INPUT": truth, "OUTPUT": str(folder / "e.gpkg")}
for name, extra in (("option", "--nonsense"), ("help", "--help"), ("quote", '"open')):
    seen[name] = refused("vectorize", EXTRA=extra, **vectorizing)
table_of_file = f"ogr:dbname='{folder / 'points.gpkg'}' table=\"points\" (geom)"
seen["points"] = checked("sample", INPUT=truth, OUTPUT=table_of_file)
seen["comma"] = checked("vectorize", SIMPLIFY="1,5", **vectorizing)
seen["number"] = checked("vectorize", SIMPLIFY="1.5", MIN_AREA="", **vectorizing)
for name, output in (("shp", "e.shp"), ("memory", "memory:"), ("none", "e")):
    seen[name] = checked("vectorize", INPUT=truth, OUTPUT=output if output[-1] == ":" else str(folder / output))
told = Told()
(folder / "folder.html").mkdir()
try:
    comparing = {"INPUT": truth, "REFERENCE": truth, "OUTPUT": str(folder / "folder.html")}
    processing.run("geoseg:evaluate", comparing, feedback=told)
except Exception as error:
    seen["folder"] = [str(error), told.lines]

# An output that is written again: the layer of the first run shows the second
again = {}
for classes in ("", "water"):
    given = {"INPUT": truth, "OUTPUT": str(folder / "again.gpkg"), "CLASSES": classes}
    again.update(loaded("geoseg:vectorize", **given)[1])
half = QgsRectangle(west, extent.yMinimum(), extent.center().x(), north)
for box in (half, extent):
    given = {"INPUT": scene, "OUTPUT": str(folder / "again.tif"), "EXTENT": box}
    again.update(loaded("geoseg:predict", **given)[1])
seen["again"] = {
    name: [layer.featureCount() if isinstance(layer, QgsVectorLayer) else layer.width(), layer.extent().toString(1)]
    for name, layer in again.items()
}
seen["again"]["whole"] = [scene.width(), extent.toString(1)]
water = QgsVectorLayer(f"{folder / 'again.gpkg'}|layername=again", "x", "ogr")
seen["again"]["water"] = [water.featureCount(), water.extent().toString(1)]

from geoseg_qgis.algorithms.algorithm import GeosegAlgorithm, _is_written
from geoseg_qgis.styles import _color_like

# Names and styles: the caller's, the user's, the map's; a table of a GeoPackage
named = QgsProcessingOutputLayerDefinition(str(folder / "named.gpkg"), project)
named.destinationName = "Mine"
seen["named"] = list(loaded("geoseg:vectorize", INPUT=truth, OUTPUT=named)[1])
results, layers = loaded(
    "geoseg:vectorize", INPUT=truth, OUTPUT=f"ogr:dbname='{folder / 'named.gpkg'}' table=\"a table\" (geom)"
)
seen["table of a file"] = [results["OUTPUT"], {name: each.source() for name, each in layers.items()}]
_, layers = loaded("geoseg:vectorize", INPUT=truth, OUTPUT=str(folder / "named.gpkg"), EXTRA="--layer 'in extra'")
seen["in extra"] = [each.source() for each in layers.values()]
colored = folder / "again.fgb"  # again.qml is the raster's
_, layers = loaded("geoseg:vectorize", INPUT=str(folder / "again.tif"), OUTPUT=str(colored))
seen["colored"] = {
    each.value(): [each.label(), each.symbol().color().name()]
    for layer in layers.values()
    for each in layer.renderer().categories()
}
style = folder / "mine.qml"
parcels("Styled").saveNamedStyle(str(style))
RenderingStyles.addAlgStylesAndSave("geoseg:vectorize", {"OUTPUT": str(style)})
_, layers = loaded("geoseg:vectorize", INPUT=truth, OUTPUT=str(folder / "styled.fgb"))
seen["styled"] = [each.renderer().type() for each in layers.values()]
RenderingStyles.addAlgStylesAndSave("geoseg:vectorize", {})
results, layers = loaded("geoseg:predict", INPUT=scene, OUTPUT=str(folder / "dry.tif"), EXTRA="--dry-run")
seen["dry"] = list(layers)
table = f"ogr:dbname='{folder / 'named.gpkg'}' table=\"no table\" (geom)"
dry = {"OUTPUT": str(folder / "dry.tif"), "POLYGONS": table, "EXTRA": "--dry-run"}
seen["dry table"] = list(loaded("geoseg:predict", INPUT=scene, **dry)[1])
seen["written"] = [_is_written(table), _is_written(table.replace("no table", "in extra"))]

# A class that the map's style lacks; a page that takes no text
stray = QgsVectorLayer("Polygon?crs=EPSG:32631&field=code:integer", "Stray", "memory")
for code in (1, 77):
    feature = QgsFeature(stray.fields())
    feature["code"] = code
    stray.dataProvider().addFeature(feature)
_color_like(str(folder / "again.tif"), stray)
seen["stray"] = [each.label() for each in stray.renderer().categories()]
try:
    GeosegAlgorithm.write_page(None, str(folder / "folder.html"), "text")
except QgsProcessingException as error:
    seen["page"] = [str(error), [each.name for each in folder.glob("*.part")]]

# In a model the author's names stay
model, source = QgsProcessingModelAlgorithm("Chain"), QgsProcessingModelChildParameterSource
model.addModelParameter(QgsProcessingParameterRasterLayer("map", "Map"), QgsProcessingModelParameter("map"))
child = QgsProcessingModelChildAlgorithm("geoseg:vectorize")
child.setChildId("polygons")
child.addParameterSources("INPUT", [source.fromModelParameter("map")])
output = QgsProcessingModelOutput("Forest and water", "Forest and water")
output.setChildId("polygons")
output.setChildOutputName("OUTPUT")
child.setModelOutputs({"Forest and water": output})
model.addChildAlgorithm(child)
(name,) = [each.name() for each in model.destinationParameterDefinitions()]
seen["model"] = list(loaded(model, **{"map": truth, name: "TEMPORARY_OUTPUT"})[1])

(folder / "seen.json").write_text(json.dumps(seen, default=str), encoding="utf-8")
project.clear()
plugin.unload()
assert "geoseg" not in ProcessingConfig.settingIcons, "the plugin leaves its icon behind"


class Desktop:
    """The part of QGIS's interface that the plugin uses."""

    def __init__(self):
        self.window, self.menu = QMainWindow(), []

    def mainWindow(self):
        return self.window

    def addPluginToMenu(self, _name, action):
        self.menu.append(action)

    def removePluginMenu(self, _name, action):
        self.menu.remove(action)


from geoseg_qgis.settings_dialog import SettingsDialog

desktop = Desktop()
again = classFactory(desktop)
again.initGui()
SettingsDialog.exec = lambda self: self.reject()  # a person's Cancel
for _ in range(2):
    desktop.menu[0].trigger()
for _ in range(2):
    again.unload()
QCoreApplication.sendPostedEvents(None, QEvent.DeferredDelete)
left = [type(each).__name__ for each in desktop.window.children() if isinstance(each, (QDialog, QAction))]
assert (left, desktop.menu) == ([], []), f"the plugin leaves {left}, {desktop.menu} behind"
assert registry.providerById("geoseg") is None
print("done", flush=True)
