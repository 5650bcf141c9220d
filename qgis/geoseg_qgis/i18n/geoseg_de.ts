<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de">
    <context>
        <name>geoseg</name>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Smaller regions are merged into the neighbor with the longest shared border. Empty: all are kept.</source>
            <translation>Kleinere Gebiete gehen in dem Nachbarn auf, mit dem sie die längste Grenze teilen. Leer: alle bleiben.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>About how far borders may move to drop vertices. Empty: borders follow the pixels.</source>
            <translation>So weit etwa dürfen sich Grenzen verschieben, um Stützpunkte zu sparen. Leer: Grenzen folgen den Pixeln.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Rounds the pixel steps of borders.</source>
            <translation>Rundet die Pixelstufen der Grenzen.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>auto: a GPU where there is one.</source>
            <translation>auto: eine Grafikkarte, wenn es eine gibt.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Smallest polygon (m²)</source>
            <translation>Kleinstes Polygon (m²)</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Simplify borders (m)</source>
            <translation>Grenzen vereinfachen (m)</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Smooth borders</source>
            <translation>Grenzen glätten</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Device</source>
            <translation>Gerät</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>More options of the command</source>
            <translation>Weitere Optionen des Befehls</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>it is a folder, or in one that is read-only</source>
            <translation>es ist ein Ordner oder liegt in einem schreibgeschützten</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>{path} cannot be written: {error}</source>
            <translation>{path} kann nicht geschrieben werden: {error}</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>geoseg ended with code {code} and no message</source>
            <translation>geoseg endete mit dem Code {code} und ohne Meldung</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>As at a command line: geoseg {verb} --help lists all options.</source>
            <translation>Wie auf der Kommandozeile: geoseg {verb} --help nennt alle Optionen.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>Canceled.</source>
            <translation>Abgebrochen.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>geoseg ended with code {code}: {line}</source>
            <translation>geoseg endete mit dem Code {code}: {line}</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>geoseg gave no result: check “More options of the command”; it printed {text}</source>
            <translation>geoseg gab kein Ergebnis: „Weitere Optionen des Befehls“ prüfen; ausgegeben wurde {text}</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>“{field}” takes a number, such as 2.5, not {value}.</source>
            <translation>„{field}“ nimmt eine Zahl wie 2.5, nicht {value}.</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>“More options of the command”: a quotation mark is not closed in {text}</source>
            <translation>„Weitere Optionen des Befehls“: In {text} ist ein Anführungszeichen nicht geschlossen</translation>
        </message>
        <message>
            <location filename="../algorithms/algorithm.py" />
            <source>{program} does not start: {error}</source>
            <translation>{program} startet nicht: {error}</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Accuracy of a map</source>
            <translation>Genauigkeit einer Karte</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Compares a land-cover map with reference data: a raster of classes, polygons, or points with the true class. The page shows the overall accuracy, the figures of each class, the confusion matrix, and the areas of the classes with 95 % confidence intervals. Classes match by name where both have names, else by code.</source>
            <translation>Vergleicht eine Landbedeckungskarte mit Referenzdaten: einem Raster von Klassen, Polygonen oder Punkten mit der wahren Klasse. Die Seite zeigt die Gesamtgenauigkeit, die Werte jeder Klasse, die Konfusionsmatrix und die Flächen der Klassen mit 95-%-Konfidenzintervallen. Klassen werden über ihre Namen zugeordnet, wenn beide Seiten Namen haben, sonst über ihre Codes.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Corrected for the errors of the map (Olofsson et al. 2014). Points always give areas.</source>
            <translation>Berichtigt um die Fehler der Karte (Olofsson et al. 2014). Punkte ergeben immer Flächen.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>A page with all figures; it appears in the results viewer.</source>
            <translation>Eine Seite mit allen Werten; sie erscheint in der Ergebnisanzeige.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>A folder for the figures as tables (CSV, JSON), and the confusion matrix as a picture.</source>
            <translation>Ein Ordner für die Werte als Tabellen (CSV, JSON) und die Konfusionsmatrix als Bild.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>A raster of classes, such as “Map land cover” makes.</source>
            <translation>Ein Raster von Klassen, wie „Landbedeckung kartieren“ es erzeugt.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>The truth as a raster of classes on any grid. Or give polygons or points below.</source>
            <translation>Die Wahrheit als Raster von Klassen auf beliebigem Gitter. Oder unten Polygone oder Punkte angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>The truth as polygons, or as points drawn at random from each class of the map.</source>
            <translation>Die Wahrheit als Polygone oder als Punkte, die zufällig aus jeder Klasse der Karte gezogen wurden.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>The field with the class of the polygons or points, by name or code.</source>
            <translation>Das Feld mit der Klasse der Polygone oder Punkte, als Name oder Code.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Names or codes, separated by commas: unknown,0.</source>
            <translation>Namen oder Codes, durch Kommas getrennt: unknown,0.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>As made by “Map land cover”, for the calibration error.</source>
            <translation>Wie „Landbedeckung kartieren“ sie erzeugt, für den Kalibrierungsfehler.</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Areas with confidence intervals</source>
            <translation>Flächen mit Konfidenzintervallen</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Accuracy</source>
            <translation>Genauigkeit</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Report</source>
            <translation>Bericht</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Overall accuracy</source>
            <translation>Gesamtgenauigkeit</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Mean IoU</source>
            <translation>Mittlere IoU</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Land-cover map</source>
            <translation>Landbedeckungskarte</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Reference raster</source>
            <translation>Referenzraster</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Reference polygons or points</source>
            <translation>Referenzpolygone oder -punkte</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Field of the class</source>
            <translation>Feld der Klasse</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Classes that do not count</source>
            <translation>Klassen, die nicht zählen</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Confidence</source>
            <translation>Konfidenz</translation>
        </message>
        <message>
            <location filename="../algorithms/evaluate.py" />
            <source>Give a reference raster, or reference polygons or points, one of the two.</source>
            <translation>Entweder ein Referenzraster oder Referenzpolygone oder -punkte angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>About a scene, map or model</source>
            <translation>Über eine Szene, eine Karte oder ein Modell</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Shows what is known about a scene (bands, values, pixel size), about a land-cover map (classes, shares, how it was made), or about a model (classes, bands, accuracy). With neither it shows the model that is used where none is given.</source>
            <translation>Zeigt, was über eine Szene (Kanäle, Werte, Pixelgröße), über eine Landbedeckungskarte (Klassen, Anteile, Entstehung) oder über ein Modell (Klassen, Kanäle, Genauigkeit) bekannt ist. Ohne beides zeigt es das Modell, das verwendet wird, wenn keines angegeben ist.</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>A raster layer of a file.</source>
            <translation>Ein Rasterlayer aus einer Datei.</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>A model made by “Train a model” or by others.</source>
            <translation>Ein Modell von „Modell trainieren“ oder aus anderer Quelle.</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>A page; it appears in the results viewer.</source>
            <translation>Eine Seite; sie erscheint in der Ergebnisanzeige.</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Scene or map</source>
            <translation>Szene oder Karte</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Model</source>
            <translation>Modell</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>About</source>
            <translation>Über</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Text</source>
            <translation>Text</translation>
        </message>
        <message>
            <location filename="../algorithms/info.py" />
            <source>Give a scene or map, or a model, one of the two.</source>
            <translation>Entweder eine Szene oder Karte oder ein Modell angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” is not a file ({kind}): export it as a GeoTIFF first (Export &gt; Save As).</source>
            <translation>Der Layer „{name}“ ist keine Datei ({kind}): zuerst als GeoTIFF exportieren (Export &gt; Speichern als).</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The file of the layer “{name}” has no coordinate reference system: give it one first (Raster &gt; Projections &gt; Assign Projection).</source>
            <translation>Die Datei des Layers „{name}“ hat kein Koordinatenbezugssystem: ihr zuerst eines geben (Raster &gt; Projektionen &gt; Projektion zuweisen).</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” is a map service: export it as a GeoTIFF first (Export &gt; Save As).</source>
            <translation>Der Layer „{name}“ ist ein Kartendienst: zuerst als GeoTIFF exportieren (Export &gt; Speichern als).</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has {crs} in QGIS, but its file has {other}: geoseg reads the file.</source>
            <translation>Der Layer „{name}“ hat in QGIS {crs}, seine Datei aber {other}: geoseg liest die Datei.</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has other nodata values in QGIS than its file: geoseg reads the file.</source>
            <translation>Der Layer „{name}“ hat in QGIS andere Nodata-Werte als seine Datei: geoseg liest die Datei.</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” is a table without geometries: choose one on the map.</source>
            <translation>Der Layer „{name}“ ist eine Tabelle ohne Geometrien: einen mit Geometrien wählen.</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has no coordinate reference system: set it first (Layer CRS &gt; Set Layer CRS in its menu).</source>
            <translation>Der Layer „{name}“ hat kein Koordinatenbezugssystem: ihm zuerst eines geben (Layer-KBS &gt; Layer-KBS setzen in seinem Menü).</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>Nothing is selected in the layer “{name}”: select features, or use all of them.</source>
            <translation>Im Layer „{name}“ ist nichts ausgewählt: Objekte auswählen oder alle verwenden.</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” has several fields called “{field}”: rename them (case does not count).</source>
            <translation>Der Layer „{name}“ hat mehrere Felder namens „{field}“: umbenennen (Groß- und Kleinschreibung zählt nicht).</translation>
        </message>
        <message>
            <location filename="../algorithms/layers.py" />
            <source>The layer “{name}” cannot be exported for geoseg: {error}</source>
            <translation>Der Layer „{name}“ kann nicht für geoseg exportiert werden: {error}</translation>
        </message>
        <message>
            <location filename="../algorithms/parameters.py" />
            <source>Models</source>
            <translation>Modelle</translation>
        </message>
        <message>
            <location filename="../algorithms/parameters.py" />
            <source>All files</source>
            <translation>Alle Dateien</translation>
        </message>
        <message>
            <location filename="../algorithms/parameters.py" />
            <source>Legends</source>
            <translation>Legenden</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Map land cover</source>
            <translation>Landbedeckung kartieren</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Maps the land cover of an aerial or satellite image of any size. The image must be a file: a GeoTIFF, VRT, JPEG 2000 and others. A run can be canceled: finished tiles are kept, and a run with the same settings and outputs resumes. The model that comes with geoseg knows six classes of land cover in images with red, green and blue and pixels of 0.3 to 2 m; for other imagery train your own.</source>
            <translation>Kartiert die Landbedeckung eines Luft- oder Satellitenbilds beliebiger Größe. Das Bild muss eine Datei sein: GeoTIFF, VRT, JPEG 2000 und andere. Ein Lauf kann abgebrochen werden: Fertige Kacheln bleiben, und ein Lauf mit denselben Einstellungen und Ausgaben setzt ihn fort. Das Modell, das mit geoseg kommt, kennt sechs Klassen der Landbedeckung in Bildern mit Rot, Grün und Blau und Pixeln von 0,3 bis 2 m; für andere Bilder ein eigenes trainieren.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The image to map: a layer of a file with a coordinate reference system.</source>
            <translation>Das zu kartierende Bild: ein Layer aus einer Datei mit Koordinatenbezugssystem.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>A model made by “Train a model” or by others. Empty: the small model that comes with geoseg.</source>
            <translation>Ein Modell von „Modell trainieren“ oder aus anderer Quelle. Leer: das kleine Modell, das mit geoseg kommt.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Map only this box. Empty: the whole scene.</source>
            <translation>Nur dieses Rechteck kartieren. Leer: die ganze Szene.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Map only inside these polygons, all of a layer or the selected ones. Empty: the whole scene.</source>
            <translation>Nur in diesen Polygonen kartieren, allen eines Layers oder den ausgewählten. Leer: die ganze Szene.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The map, with the colors and the names of its classes. Keep the files beside it that share its name.</source>
            <translation>Die Karte mit den Farben und Namen ihrer Klassen. Die Dateien daneben mit demselben Namen gehören dazu.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>How sure the model is of each pixel, in percent.</source>
            <translation>Wie sicher das Modell bei jedem Pixel ist, in Prozent.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The map as polygons with the class, area and perimeter of each. Neighbors share their borders.</source>
            <translation>Die Karte als Polygone mit Klasse, Fläche und Umfang. Nachbarn teilen ihre Grenzen.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>In the order of the model. Empty: by their colors, then by their names, else the first.</source>
            <translation>In der Reihenfolge des Modells. Leer: nach ihren Farben, dann nach ihren Namen, sonst die ersten.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>For scenes of more than 8 bits: two numbers such as 0,3000. Empty: as in training.</source>
            <translation>Für Szenen mit mehr als 8 Bit: zwei Zahlen wie 0,3000. Leer: wie im Training.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Empty: that of the scene.</source>
            <translation>Leer: die der Szene.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The mean over this many flips and rotations is better, and takes as many times as long.</source>
            <translation>Der Mittelwert über so viele Spiegelungen und Drehungen ist besser und dauert so viele Male so lange.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Empty: as cores and memory allow.</source>
            <translation>Leer: nach Kernen und Speicher.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The probability of each class, one band per class, in percent.</source>
            <translation>Die Wahrscheinlichkeit jeder Klasse, ein Kanal je Klasse, in Prozent.</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Land cover of {name}</source>
            <translation>Landbedeckung von {name}</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Confidence of {name}</source>
            <translation>Konfidenz von {name}</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Probabilities of {name}</source>
            <translation>Wahrscheinlichkeiten von {name}</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Land-cover polygons of {name}</source>
            <translation>Landbedeckungspolygone von {name}</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Number of polygons</source>
            <translation>Anzahl der Polygone</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Scene</source>
            <translation>Szene</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Extent</source>
            <translation>Ausdehnung</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Area</source>
            <translation>Gebiet</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Polygons</source>
            <translation>Polygone</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Bands for the model</source>
            <translation>Kanäle für das Modell</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Values of black and white</source>
            <translation>Werte von Schwarz und Weiß</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Pixel size of the map (m)</source>
            <translation>Pixelgröße der Karte (m)</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Passes</source>
            <translation>Durchgänge</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Windows at once on a CPU</source>
            <translation>Gleichzeitige Fenster auf einer CPU</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>Probabilities</source>
            <translation>Wahrscheinlichkeiten</translation>
        </message>
        <message>
            <location filename="../algorithms/predict.py" />
            <source>The extent lies outside the scene: choose one that overlaps it, or none.</source>
            <translation>Die Ausdehnung liegt außerhalb der Szene: eine wählen, die sie überlappt, oder keine.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Look at a map</source>
            <translation>Karte ansehen</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Makes one web page of a land-cover map of any size, and opens it. Pan and zoom, swipe between scene and map, switch classes on and off, read areas. The page is one file that needs no network: send it to anybody who has a browser.</source>
            <translation>Macht aus einer Landbedeckungskarte beliebiger Größe eine Webseite und öffnet sie. Verschieben und zoomen, zwischen Szene und Karte wischen, Klassen ein- und ausschalten, Flächen ablesen. Die Seite ist eine Datei, die kein Netz braucht: an alle schicken, die einen Browser haben.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The image under the map, compared by a swipe line.</source>
            <translation>Das Bild unter der Karte, durch eine Wischlinie verglichen.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Polygons of the map, drawn as outlines.</source>
            <translation>Polygone der Karte, als Umrisse gezeichnet.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>As made by “Map land cover”.</source>
            <translation>Wie „Landbedeckung kartieren“ sie erzeugt.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The swipe line then lies between the two maps, and the page shows what changed.</source>
            <translation>Die Wischlinie liegt dann zwischen den beiden Karten, und die Seite zeigt, was sich geändert hat.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The heading of the page. Empty: the name of the file.</source>
            <translation>Die Überschrift der Seite. Leer: der Name der Datei.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>What stands below the heading.</source>
            <translation>Was unter der Überschrift steht.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>auto: softer ones for maps in DeepGlobe's colors, else those of the map; own: those of the map; color-blind: colors that everybody can tell apart.</source>
            <translation>auto: sanftere für Karten in den Farben von DeepGlobe, sonst die der Karte; own: die der Karte; color-blind: Farben, die alle unterscheiden können.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>The page; it appears in the results viewer too.</source>
            <translation>Die Seite; sie erscheint auch in der Ergebnisanzeige.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>When it is finished.</source>
            <translation>Sobald sie fertig ist.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>A larger page zooms deeper. Empty: 15.</source>
            <translation>Eine größere Seite zoomt tiefer. Leer: 15.</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Map of a later date</source>
            <translation>Karte eines späteren Zeitpunkts</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Title</source>
            <translation>Titel</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Description</source>
            <translation>Beschreibung</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Colors</source>
            <translation>Farben</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Page</source>
            <translation>Seite</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Open the page in the browser</source>
            <translation>Seite im Browser öffnen</translation>
        </message>
        <message>
            <location filename="../algorithms/preview.py" />
            <source>Largest size (MB)</source>
            <translation>Maximale Größe (MB)</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Random points of a map</source>
            <translation>Zufallspunkte einer Karte</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Draws random points of each class of a land-cover map, to find out how accurate it is. Fill in the field class, on the ground or in better imagery, with names or codes of the map's classes. Then “Accuracy of a map” tells the accuracy of the map and the true areas of its classes with 95 % confidence intervals. The points do not tell what the map says of them, and come in random order.</source>
            <translation>Zieht aus jeder Klasse einer Landbedeckungskarte zufällige Punkte, um ihre Genauigkeit zu bestimmen. Das Feld class im Gelände oder in besseren Bildern ausfüllen, mit Namen oder Codes der Klassen der Karte. Dann nennt „Genauigkeit einer Karte“ die Genauigkeit der Karte und die wahren Flächen ihrer Klassen mit 95-%-Konfidenzintervallen. Die Punkte verraten nicht, was die Karte über sie sagt, und kommen in zufälliger Reihenfolge.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>The points, with a number and an empty class.</source>
            <translation>Die Punkte, mit einer Nummer und leerer Klasse.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Classes that were filled in are lost. Otherwise an existing file stays, and the run ends.</source>
            <translation>Ausgefüllte Klassen gehen verloren. Sonst bleibt eine vorhandene Datei, und der Lauf endet.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Where the number of all points is given, the fewest in each. Empty: 50.</source>
            <translation>Ist die Zahl aller Punkte angegeben, die kleinste in jeder Klasse. Leer: 50.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Rare classes get the points of each class, the others share the rest by area. Empty: equally many.</source>
            <translation>Seltene Klassen bekommen die Punkte je Klasse, die anderen teilen den Rest nach Fläche. Leer: alle gleich viele.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Names or codes, separated by commas: water,5. Empty: all.</source>
            <translation>Namen oder Codes, durch Kommas getrennt: water,5. Leer: alle.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Polygons: only pixels in them are drawn.</source>
            <translation>Polygone: nur Pixel in ihnen werden gezogen.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Another number draws other points. Empty: 21.</source>
            <translation>Eine andere Zahl zieht andere Punkte. Leer: 21.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Names and colors of the codes. Empty: the map's own.</source>
            <translation>Namen und Farben der Codes. Leer: die der Karte.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points</source>
            <translation>Punkte</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Replace existing points</source>
            <translation>Vorhandene Punkte ersetzen</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points in each class</source>
            <translation>Punkte je Klasse</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points in all</source>
            <translation>Punkte insgesamt</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Only these classes</source>
            <translation>Nur diese Klassen</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Seed</source>
            <translation>Startwert</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Legend</source>
            <translation>Legende</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>The points need a file of their own: name one, such as points.gpkg, without a table.</source>
            <translation>Die Punkte brauchen eine eigene Datei: eine nennen, etwa punkte.gpkg, ohne Tabelle.</translation>
        </message>
        <message>
            <location filename="../algorithms/sample.py" />
            <source>Points of {name}</source>
            <translation>Punkte von {name}</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Areas by class, district or date</source>
            <translation>Flächen nach Klasse, Bezirk oder Zeitpunkt</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Adds up the area of each class of a land-cover map: of all of it, by district, or by an earlier map (what became of what). A pixel is in the zone that contains its center. Areas are those on the ground, in every coordinate reference system, and what the map shows: “Accuracy of a map” corrects them for its errors.</source>
            <translation>Summiert die Fläche jeder Klasse einer Landbedeckungskarte: insgesamt, nach Bezirk oder nach einer früheren Karte (was aus was wurde). Ein Pixel gehört zu der Zone, in der seine Mitte liegt. Flächen sind die am Boden, in jedem Koordinatenbezugssystem, und so, wie die Karte sie zeigt: „Genauigkeit einer Karte“ berichtigt sie um deren Fehler.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>A line for each class in each zone, with its pixels, area and share.</source>
            <translation>Eine Zeile für jede Klasse in jeder Zone, mit Pixeln, Fläche und Anteil.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Polygons, such as districts. Empty: the whole map is counted, or by the earlier map below.</source>
            <translation>Polygone, etwa Bezirke. Leer: die ganze Karte wird gezählt, oder nach der früheren Karte unten.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>The field with the names of the zones. Polygons of one name are one zone.</source>
            <translation>Das Feld mit den Namen der Zonen. Polygone mit demselben Namen sind eine Zone.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Another raster of classes, on any grid: the zones are its classes.</source>
            <translation>Ein anderes Raster von Klassen, auf beliebigem Gitter: die Zonen sind seine Klassen.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Polygons: only pixels in them count.</source>
            <translation>Polygone: nur Pixel in ihnen zählen.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Names of its codes. Empty: its own.</source>
            <translation>Namen ihrer Codes. Leer: ihre eigenen.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Table</source>
            <translation>Tabelle</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Zones</source>
            <translation>Zonen</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Field of the zone</source>
            <translation>Feld der Zone</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Earlier map</source>
            <translation>Frühere Karte</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Legend of the earlier map</source>
            <translation>Legende der früheren Karte</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Give zones or an earlier map, not both.</source>
            <translation>Entweder Zonen oder eine frühere Karte angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/tabulate.py" />
            <source>Areas of {name}</source>
            <translation>Flächen von {name}</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Train a model</source>
            <translation>Modell trainieren</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Trains a model on your own labels: polygons with a class, or a raster of classes, over one scene or a folder of scenes. Training takes hours without a GPU. It can be canceled: a run with the same settings and output resumes from its last checkpoint. The model is one file, which “Map land cover” takes.</source>
            <translation>Trainiert ein Modell mit eigenen Daten: Polygonen mit einer Klasse oder einem Raster von Klassen, über einer Szene oder einem Ordner von Szenen. Ohne Grafikkarte dauert das Training Stunden. Es kann abgebrochen werden: Ein Lauf mit denselben Einstellungen und derselben Ausgabe setzt es vom letzten Zwischenstand fort. Das Modell ist eine Datei, die „Landbedeckung kartieren“ annimmt.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>How often the model sees each scene, roughly. Empty: as in the recipe.</source>
            <translation>Wie oft das Modell jede Szene ungefähr sieht. Leer: wie im Rezept.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>The trained model.</source>
            <translation>Das trainierte Modell.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>A folder for curves, figures and the worst crops.</source>
            <translation>Ein Ordner für Kurven, Werte und die schlechtesten Ausschnitte.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>The image to learn from: a layer of a file. Or give a folder of scenes below.</source>
            <translation>Das Bild, aus dem gelernt wird: ein Layer aus einer Datei. Oder unten einen Ordner von Szenen angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Scenes with images/ and labels/, in the DeepGlobe layout, or scenes to which the labels below belong.</source>
            <translation>Szenen mit images/ und labels/, in der Form von DeepGlobe, oder Szenen, zu denen die Klassen unten gehören.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Polygons of known classes. What no polygon covers does not count.</source>
            <translation>Polygone bekannter Klassen. Was kein Polygon bedeckt, zählt nicht.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>The field with the class of the polygons, by name or code.</source>
            <translation>Das Feld mit der Klasse der Polygone, als Name oder Code.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Or the labels as a raster of classes.</source>
            <translation>Oder die Klassen als Raster.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>A named recipe to start from. Empty: default. geoseg train --recipes lists them.</source>
            <translation>Ein Rezept als Ausgangspunkt. Leer: default. geoseg train --recipes nennt alle.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Empty: as in the recipe.</source>
            <translation>Leer: wie im Rezept.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Finer imagery is averaged to this size. Empty: as in the recipe.</source>
            <translation>Feinere Bilder werden auf diese Größe gemittelt. Leer: wie im Rezept.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Names and colors of the classes. Empty: from the labels.</source>
            <translation>Namen und Farben der Klassen. Leer: aus den Daten.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Epochs</source>
            <translation>Epochen</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Folder of scenes</source>
            <translation>Ordner mit Szenen</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Label polygons</source>
            <translation>Polygone mit Klassen</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Label raster</source>
            <translation>Raster mit Klassen</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Recipe</source>
            <translation>Rezept</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Model to start from</source>
            <translation>Modell als Ausgangspunkt</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Pixel size (m)</source>
            <translation>Pixelgröße (m)</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Give a scene or a folder of scenes, one of the two.</source>
            <translation>Entweder eine Szene oder einen Ordner mit Szenen angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Give label polygons or a label raster, not both.</source>
            <translation>Entweder Polygone oder ein Raster mit Klassen angeben.</translation>
        </message>
        <message>
            <location filename="../algorithms/train.py" />
            <source>Give the labels of the scene: polygons or a raster.</source>
            <translation>Die Klassen der Szene angeben: Polygone oder ein Raster.</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Polygons of a land-cover map</source>
            <translation>Polygone einer Landbedeckungskarte</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Draws the polygons of a map of classes of any size. There are no gaps, no overlaps and no cuts: neighbors share their borders, simplified or not. Each polygon has the code and the name of its class, its area and its perimeter. Any raster of classes will do, also WorldCover, NLCD or CORINE.</source>
            <translation>Zeichnet die Polygone einer Karte von Klassen beliebiger Größe. Es gibt keine Lücken, keine Überlappungen und keine Schnitte: Nachbarn teilen ihre Grenzen, vereinfacht oder nicht. Jedes Polygon hat Code und Namen seiner Klasse, Fläche und Umfang. Jedes Raster von Klassen eignet sich, auch WorldCover, NLCD oder CORINE.</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>The polygons, with the colors of the map.</source>
            <translation>Die Polygone, in den Farben der Karte.</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>As made by “Map land cover”: each polygon gets its mean.</source>
            <translation>Wie „Landbedeckung kartieren“ sie erzeugt: jedes Polygon bekommt ihren Mittelwert.</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>All regions of a class become one feature.</source>
            <translation>Alle Gebiete einer Klasse werden ein Objekt.</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>4: pixels that share a side are one region; 8: also pixels that share a corner.</source>
            <translation>4: Pixel mit gemeinsamer Seite sind ein Gebiet; 8: auch Pixel mit gemeinsamer Ecke.</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>One multipolygon per class</source>
            <translation>Ein Multipolygon je Klasse</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Connectivity</source>
            <translation>Nachbarschaft</translation>
        </message>
        <message>
            <location filename="../algorithms/vectorize.py" />
            <source>Polygons of {name}</source>
            <translation>Polygone von {name}</translation>
        </message>
        <message>
            <location filename="../command/child.py" />
            <source>the Python of its environment is gone, install geoseg again</source>
            <translation>das Python ihrer Umgebung ist nicht mehr da, geoseg neu installieren</translation>
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>The installation was canceled.</source>
            <translation>Die Installation wurde abgebrochen.</translation>
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>No Python {oldest} or later with venv and pip was found: install one (python.org; on Debian and Ubuntu python3-venv), or install geoseg in one of the ways below.</source>
            <translation>Kein Python {oldest} oder neuer mit venv und pip gefunden: eines installieren (python.org; unter Debian und Ubuntu python3-venv) oder geoseg auf einem der Wege unten installieren.</translation>
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>{folder} is no environment of Python: move it away, or install by hand.</source>
            <translation>{folder} ist keine Python-Umgebung: den Ordner verschieben oder von Hand installieren.</translation>
        </message>
        <message>
            <location filename="../command/installation.py" />
            <source>geoseg could not be installed ({name} says: {error}): check network and disk, or install it in one of the ways below.</source>
            <translation>geoseg konnte nicht installiert werden ({name} meldet: {error}): Netz und Festplatte prüfen oder geoseg auf einem der Wege unten installieren.</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>run it again with the same settings and outputs to resume</source>
            <translation>zum Fortsetzen mit denselben Einstellungen und Ausgaben noch einmal starten</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>run it again with the same settings and outputs</source>
            <translation>mit denselben Einstellungen und Ausgaben noch einmal starten</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Fetching the model</source>
            <translation>Das Modell wird geladen</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Preparing the model</source>
            <translation>Das Modell wird vorbereitet</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Mapping</source>
            <translation>Kartieren</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Putting the map together</source>
            <translation>Die Karte wird zusammengesetzt</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Drawing polygons</source>
            <translation>Polygone werden gezeichnet</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Reading the labeled scenes</source>
            <translation>Die Szenen mit Klassen werden gelesen</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Training</source>
            <translation>Training</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Comparing</source>
            <translation>Vergleichen</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Drawing points</source>
            <translation>Punkte werden gezogen</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>Making the page</source>
            <translation>Die Seite wird erstellt</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source> (options go into “{field}”)</source>
            <translation> (Optionen gehören in „{field}“)</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>epoch {epoch} of {epochs}</source>
            <translation>Epoche {epoch} von {epochs}</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>{rate:.1f} Mpx/s</source>
            <translation>{rate:.1f} Mpx/s</translation>
        </message>
        <message>
            <location filename="../command/listener.py" />
            <source>{time} left</source>
            <translation>noch {time}</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>geoseg was not found: open Plugins &gt; geoseg &gt; Settings, which says how to install it, or choose it there.</source>
            <translation>geoseg wurde nicht gefunden: Erweiterungen &gt; geoseg &gt; Einstellungen öffnen; dort steht, wie man es installiert, und dort kann man es auswählen.</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>it does not answer as geoseg does</source>
            <translation>es antwortet nicht wie geoseg</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{program} cannot be used ({said}): open Plugins &gt; geoseg &gt; Settings to choose another.</source>
            <translation>{program} kann nicht verwendet werden ({said}): unter Erweiterungen &gt; geoseg &gt; Einstellungen ein anderes wählen.</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>it says: {error}</source>
            <translation>es meldet: {error}</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{program} is geoseg {version}, but this plugin needs {needed} or later: update it.</source>
            <translation>{program} ist geoseg {version}, diese Erweiterung braucht aber {needed} oder neuer: aktualisieren.</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{path} contains no geoseg: choose the program, or the folder of its environment.</source>
            <translation>{path} enthält kein geoseg: das Programm oder den Ordner seiner Umgebung wählen.</translation>
        </message>
        <message>
            <location filename="../command/program.py" />
            <source>{path} does not exist: open Plugins &gt; geoseg &gt; Settings to choose geoseg again.</source>
            <translation>{path} gibt es nicht: geoseg unter Erweiterungen &gt; geoseg &gt; Einstellungen neu wählen.</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Rows are the reference, columns the map.</source>
            <translation>Zeilen sind die Referenz, Spalten die Karte.</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>points</source>
            <translation>Punkte</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>pixels</source>
            <translation>Pixel</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Class</source>
            <translation>Klasse</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>IoU</source>
            <translation>IoU</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>User's accuracy</source>
            <translation>Nutzergenauigkeit</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Producer's accuracy</source>
            <translation>Produzentengenauigkeit</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Mapped</source>
            <translation>Kartiert</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>95 % interval</source>
            <translation>95-%-Intervall</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Confusion matrix</source>
            <translation>Konfusionsmatrix</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Kappa</source>
            <translation>Kappa</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Compared</source>
            <translation>Verglichen</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Left out</source>
            <translation>Ausgelassen</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Expected calibration error</source>
            <translation>Erwarteter Kalibrierungsfehler</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Classes</source>
            <translation>Klassen</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Areas</source>
            <translation>Flächen</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Notes</source>
            <translation>Hinweise</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>Accuracy of {map}</source>
            <translation>Genauigkeit von {map}</translation>
        </message>
        <message>
            <location filename="../command/report.py" />
            <source>against {reference}</source>
            <translation>verglichen mit {reference}</translation>
        </message>
        <message>
            <location filename="../plugin.py" />
            <source>Settings…</source>
            <translation>Einstellungen…</translation>
        </message>
        <message>
            <location filename="../settings.py" />
            <source>Program geoseg, or the folder of its environment (empty: look for it)</source>
            <translation>Programm geoseg oder der Ordner seiner Umgebung (leer: suchen)</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg runs outside QGIS, in an environment of its own, so that it cannot break QGIS. Install it once, in a terminal, in one of these ways; where QGIS does not find it by itself, choose it above and press Test:</source>
            <translation>geoseg läuft außerhalb von QGIS in einer eigenen Umgebung und kann QGIS daher nicht beschädigen. Einmal in einem Terminal auf einem dieser Wege installieren; wo QGIS es nicht selbst findet, oben auswählen und Testen drücken:</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg {version} works.</source>
            <translation>geoseg {version} funktioniert.</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg {version} does not work here yet.</source>
            <translation>geoseg {version} funktioniert hier noch nicht.</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg: settings</source>
            <translation>geoseg: Einstellungen</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>The program geoseg of an environment</source>
            <translation>Das Programm geoseg einer Umgebung</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Test</source>
            <translation>Testen</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Install geoseg</source>
            <translation>geoseg installieren</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Into an environment of its own, in your home folder; QGIS's Python stays as it is</source>
            <translation>In eine eigene Umgebung in Ihrem Benutzerordner; das Python von QGIS bleibt, wie es ist</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Cancel</source>
            <translation>Abbrechen</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Program geoseg, or the folder of its environment (empty: look for it):</source>
            <translation>Programm geoseg oder der Ordner seiner Umgebung (leer: suchen):</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Installing geoseg into {folder}…</source>
            <translation>geoseg wird in {folder} installiert…</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>Asking geoseg; this takes some seconds…</source>
            <translation>geoseg wird gefragt; das dauert einige Sekunden…</translation>
        </message>
        <message>
            <location filename="../settings_dialog.py" />
            <source>geoseg could not be installed: {error}</source>
            <translation>geoseg konnte nicht installiert werden: {error}</translation>
        </message>
        <message>
            <location filename="../styles.py" />
            <source>Other classes</source>
            <translation>Andere Klassen</translation>
        </message>
    </context>
</TS>
