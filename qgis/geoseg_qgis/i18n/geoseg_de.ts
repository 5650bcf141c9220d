<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de">
    <context>
        <name>geoseg</name>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Smaller regions are merged into the neighbor with the longest shared border. Empty: all are kept.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>About how far borders may move to drop vertices. Empty: borders follow the pixels.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Rounds the pixel steps of borders.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>auto: a GPU where there is one.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Smallest polygon (m²)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Simplify borders (m)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Smooth borders</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Device</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>More options of the command</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>it is a folder, or in one that is read-only</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>{path} cannot be written: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>geoseg ended with code {code} and no message</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>As at a command line: geoseg {verb} --help lists all options.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Canceled.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>geoseg ended with code {code}: {line}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>geoseg gave no result: check “More options of the command”; it printed {text}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>“More options of the command”: a quotation mark is not closed in {text}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>{program} does not start: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Accuracy of a map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Compares a land-cover map with reference data: a raster of classes, polygons, or points with the true class. The page shows the overall accuracy, the figures of each class, the confusion matrix, and the areas of the classes with 95 % confidence intervals. Classes match by name where both have names, else by code.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Corrected for the errors of the map (Olofsson et al. 2014). Points always give areas.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>A page with all figures; it appears in the results viewer.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>A folder for the figures as tables (CSV, JSON), and the confusion matrix as a picture.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>A raster of classes, such as “Map land cover” makes.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>The truth as a raster of classes on any grid. Or give polygons or points below.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>The truth as polygons, or as points drawn at random from each class of the map.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>The field with the class of the polygons or points, by name or code.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Names or codes, separated by commas: unknown,0.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>As made by “Map land cover”, for the calibration error.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Areas with confidence intervals</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Accuracy</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Report</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Overall accuracy</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Mean IoU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Land-cover map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Reference raster</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Reference polygons or points</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Field of the class</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Classes that do not count</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Confidence</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Give a reference raster, or reference polygons or points, one of the two.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>About a scene, map or model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Shows what is known about a scene (bands, values, pixel size), about a land-cover map (classes, shares, how it was made), or about a model (classes, bands, accuracy). With neither it shows the model that is used where none is given.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>A raster layer of a file.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>A model made by “Train a model” or by others.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>A page; it appears in the results viewer.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Scene or map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>About</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Text</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Give a scene or map, or a model, one of the two.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has {crs} in QGIS, but its file has {other}: geoseg reads the file.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” is not a file ({kind}): export it as a GeoTIFF first (Export &gt; Save As).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The file of the layer “{name}” has no coordinate reference system: give it one first (Raster &gt; Projections &gt; Assign Projection).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” is a map service: export it as a GeoTIFF first (Export &gt; Save As).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” is a table without geometries: choose one on the map.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has no coordinate reference system: set it first (Layer CRS &gt; Set Layer CRS in its menu).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>Nothing is selected in the layer “{name}”: select features, or use all of them.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has several fields called “{field}”: rename them (case does not count).</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” cannot be exported for geoseg: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/parameters.py" />
            <source>Models</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/parameters.py" />
            <source>All files</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/parameters.py" />
            <source>Legends</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Map land cover</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Maps the land cover of an aerial or satellite image of any size. The image must be a file: a GeoTIFF, VRT, JPEG 2000 and others. A run can be canceled: finished tiles are kept, and a run with the same settings and outputs resumes. The model that comes with geoseg knows six classes of land cover in images with red, green and blue and pixels of 0.3 to 2 m; for other imagery train your own.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The image to map: a layer of a file with a coordinate reference system.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>A model made by “Train a model” or by others. Empty: the small model that comes with geoseg.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Map only this box. Empty: the whole scene.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Map only inside these polygons, all of a layer or the selected ones. Empty: the whole scene.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The map, with the colors and the names of its classes. Keep the files beside it that share its name.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>How sure the model is of each pixel, in percent.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The map as polygons with the class, area and perimeter of each. Neighbors share their borders.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>In the order of the model. Empty: by their colors, then by their names, else the first.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>For scenes of more than 8 bits: two numbers such as 0,3000. Empty: as in training.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Empty: that of the scene.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The mean over this many flips and rotations is better, and takes as many times as long.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Empty: as cores and memory allow.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The probability of each class, one band per class, in percent.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Land cover of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Confidence of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Probabilities of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Land-cover polygons of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Number of polygons</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Scene</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Extent</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Area</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Polygons</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Bands for the model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Values of black and white</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Pixel size of the map (m)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Passes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Windows at once on a CPU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Probabilities</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The extent lies outside the scene: choose one that overlaps it, or none.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Look at a map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Makes one web page of a land-cover map of any size, and opens it. Pan and zoom, swipe between scene and map, switch classes on and off, read areas. The page is one file that needs no network: send it to anybody who has a browser.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The image under the map, compared by a swipe line.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Polygons of the map, drawn as outlines.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>As made by “Map land cover”.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The swipe line then lies between the two maps, and the page shows what changed.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The heading of the page. Empty: the name of the file.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>What stands below the heading.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>auto: softer ones for maps in DeepGlobe's colors, else those of the map; own: those of the map; color-blind: colors that everybody can tell apart.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The page; it appears in the results viewer too.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>When it is finished.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>A larger page zooms deeper. Empty: 15.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Map of a later date</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Title</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Description</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Colors</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Page</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Open the page in the browser</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Largest size (MB)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Random points of a map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Draws random points of each class of a land-cover map, to find out how accurate it is. Fill in the field class, on the ground or in better imagery, with names or codes of the map's classes. Then “Accuracy of a map” tells the accuracy of the map and the true areas of its classes with 95 % confidence intervals. The points do not tell what the map says of them, and come in random order.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>The points, with a number and an empty class.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Classes that were filled in are lost. Otherwise an existing file stays, and the run ends.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Where the number of all points is given, the fewest in each. Empty: 50.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Rare classes get the points of each class, the others share the rest by area. Empty: equally many.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Names or codes, separated by commas: water,5. Empty: all.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Polygons: only pixels in them are drawn.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Another number draws other points. Empty: 21.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Names and colors of the codes. Empty: the map's own.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Replace existing points</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points in each class</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points in all</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Only these classes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Seed</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Legend</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Areas by class, district or date</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Adds up the area of each class of a land-cover map: of all of it, by district, or by an earlier map (what became of what). A pixel is in the zone that contains its center. Areas are those on the ground, in every coordinate reference system, and what the map shows: “Accuracy of a map” corrects them for its errors.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>A line for each class in each zone, with its pixels, area and share.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Polygons, such as districts. Empty: the whole map is counted, or by the earlier map below.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>The field with the names of the zones. Polygons of one name are one zone.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Another raster of classes, on any grid: the zones are its classes.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Polygons: only pixels in them count.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Names of its codes. Empty: its own.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Table</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Zones</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Field of the zone</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Earlier map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Legend of the earlier map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Give zones or an earlier map, not both.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Areas of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Train a model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Trains a model on your own labels: polygons with a class, or a raster of classes, over one scene or a folder of scenes. Training takes hours without a GPU. It can be canceled: a run with the same settings and output resumes from its last checkpoint. The model is one file, which “Map land cover” takes.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>How often the model sees each scene, roughly. Empty: as in the recipe.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>The trained model.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>A folder for curves, figures and the worst crops.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>The image to learn from: a layer of a file. Or give a folder of scenes below.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Scenes with images/ and labels/, in the DeepGlobe layout, or scenes to which the labels below belong.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Polygons of known classes. What no polygon covers does not count.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>The field with the class of the polygons, by name or code.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Or the labels as a raster of classes.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>A named recipe to start from. Empty: default. geoseg train --recipes lists them.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Empty: as in the recipe.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Finer imagery is averaged to this size. Empty: as in the recipe.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Names and colors of the classes. Empty: from the labels.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Epochs</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Folder of scenes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Label polygons</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Label raster</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Recipe</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Model to start from</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Pixel size (m)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Give a scene or a folder of scenes, one of the two.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Give label polygons or a label raster, not both.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Give the labels of the scene: polygons or a raster.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Polygons of a land-cover map</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Draws the polygons of a map of classes of any size. There are no gaps, no overlaps and no cuts: neighbors share their borders, simplified or not. Each polygon has the code and the name of its class, its area and its perimeter. Any raster of classes will do, also WorldCover, NLCD or CORINE.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>The polygons, with the colors of the map.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>As made by “Map land cover”: each polygon gets its mean.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>All regions of a class become one feature.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>4: pixels that share a side are one region; 8: also pixels that share a corner.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>One multipolygon per class</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Connectivity</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Polygons of {name}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>The installation was canceled.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>No Python {oldest} or later with venv and pip was found: install one (python.org; on Debian and Ubuntu python3-venv), or install geoseg in one of the ways below.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>{folder} is no environment of Python: move it away, or install by hand.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>geoseg could not be installed ({name} says: {error}): check network and disk, or install it in one of the ways below.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>run it again with the same settings and outputs to resume</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Fetching the model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Preparing the model</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Mapping</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Putting the map together</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Drawing polygons</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Reading the labeled scenes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Training</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Comparing</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Drawing points</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Making the page</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source> (options go into “{field}”)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>epoch {epoch} of {epochs}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>{rate:.1f} Mpx/s</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>{time} left</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>geoseg was not found: open Plugins &gt; geoseg &gt; Settings, which says how to install it, or choose it there.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>it does not answer as geoseg does</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{program} cannot be used ({said}): open Plugins &gt; geoseg &gt; Settings to choose another.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>it says: {error}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{program} is geoseg {version}, but this plugin needs {needed} or later: update it.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{path} contains no geoseg: choose the program, or the folder of its environment.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{path} does not exist: open Plugins &gt; geoseg &gt; Settings to choose geoseg again.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Rows are the reference, columns the map.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>points</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>pixels</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Class</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>IoU</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>User's accuracy</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Producer's accuracy</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Mapped</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>95 % interval</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Confusion matrix</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Kappa</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Compared</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Left out</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Expected calibration error</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Classes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Areas</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Notes</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Accuracy of {map}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>against {reference}</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../plugin.py" />
            <source>Settings…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings.py" />
            <source>Program geoseg, or the folder of its environment (empty: look for it)</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg runs outside QGIS, in an environment of its own, so that it cannot break QGIS. Install it once, in a terminal, in one of these ways; where QGIS does not find it by itself, choose it above and press Test:</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg {version} works.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg {version} does not work here yet.</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg: settings</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>The program geoseg of an environment</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Test</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Install geoseg</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Into an environment of its own, in your home folder; QGIS's Python stays as it is</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Cancel</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Program geoseg, or the folder of its environment (empty: look for it):</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Installing geoseg into {folder}…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Asking geoseg; this takes some seconds…</source>
            <translation type="unfinished" />
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg could not be installed: {error}</source>
            <translation type="unfinished" />
        </message>
    </context>
</TS>
