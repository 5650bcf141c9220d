"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const NODATA = 255;
  const UNNAMED = [128, 128, 128];
  const { tilePx, sidePx } = data; // a tile's share of the ground, and its picture, which shows some of the next ones too
  const [firstZoom, lastZoom, nativeZoom] = data.zooms;
  const [left, bottom, right, top] = data.bounds;
  const hasScene = Boolean(data.layers.scene);
  const hasConfidence = Boolean(data.layers.confidence);
  const hasLater = Boolean(data.later); // a second map, on the right of the swipe line; else the scene is on its left
  const hasSwipe = hasScene || hasLater;
  const hidden = new Set();
  const byCode = new Map(data.classes.map((land) => [land.code, land]));
  const bySlot = new Map(data.classes.map((land) => [land.slot, land])); // what tiles hold: a byte for each code
  let palette = data.palettes[0][0];
  let shown = "classes";
  const MOST_CHANGES = 12; // half of them on a sheet that lies across
  let noting = 0; // a timer; while it is 0 the page is being made, and its address stays as it is
  let address = ""; // the part of it that is ours, as it was read or written last
  let wholeView = null;

  // --- Places -------------------------------------------------------------------------------------------------
  const crs = data.earth ? L.CRS.EPSG3857 : L.CRS.Simple;
  const toLatLng = (x, y) => (data.earth ? crs.unproject(L.point(x, y)) : L.latLng(y, x));
  const toXY = (latlng) => (data.earth ? crs.project(latlng) : L.point(latlng.lng, latlng.lat));
  const bounds = L.latLngBounds(toLatLng(left, bottom), toLatLng(right, top));

  const map = L.map("map", {
    crs, attributionControl: false, zoomSnap: 0.25, zoomDelta: 1, wheelPxPerZoomLevel: 90, zoomControl: false,
    minZoom: firstZoom - 3, maxZoom: nativeZoom + 4, maxBounds: bounds.pad(1), maxBoundsViscosity: 0.6,
    preferCanvas: true,
  });
  const zooms = L.control.zoom({ position: "bottomright", zoomInText: "+", zoomOutText: "\u2212" }).addTo(map);
  const whole = Object.assign(document.createElement("a"), { className: "whole", href: "#", title: "Show the whole map" });
  whole.setAttribute("role", "button");
  whole.setAttribute("aria-label", whole.title);
  L.DomEvent.on(whole, "click", (event) => { L.DomEvent.stop(event); showWhole(); });
  L.DomEvent.disableClickPropagation(whole);
  zooms.getContainer().append(whole);
  map.createPane("scene").style.zIndex = 200;
  map.createPane("earlier").style.zIndex = 250;
  map.createPane("cover").style.zIndex = 300;
  function showWhole() {
    const snap = map.options.zoomSnap;
    map.options.zoomSnap = 0; // as large as it fits
    map.fitBounds(bounds, { animate: false, padding: [16, 16] });
    map.options.zoomSnap = snap;
  }
  showWhole();

  // --- Tiles --------------------------------------------------------------------------------------------------
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const inflate = async (text) => {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const maxZoom = nativeZoom + 4;
  // Tiles of the map's own pixels are enlarged here, pixel by pixel; others are stretched.
  const isExact = (name) => Boolean(data.pixels) && data.pixels.layers.includes(name) && data.lastZooms[name] >= nativeZoom;
  const tileOptions = (pane, name) => ({
    pane, bounds, tileSize: tilePx, minNativeZoom: firstZoom, maxNativeZoom: isExact(name) ? maxZoom : data.lastZooms[name],
    minZoom: firstZoom - 3, maxZoom, noWrap: true, keepBuffer: 1,
  });
  const keyOf = (coords) => `${coords.z}/${coords.x}/${coords.y}`;

  // A tile repeats the first pixels of its neighbors: at zooms between two levels the ground would shine through
  // the seams. Its level stands where it belongs: Leaflet would move it to whole screen pixels.
  const Tiles = L.GridLayer.extend({
    _initTile(tile) {
      L.GridLayer.prototype._initTile.call(this, tile);
      tile.style.width = tile.style.height = `${sidePx}px`;
    },
    _setZoomTransform(level, center, zoom) {
      const scale = this._map.getZoomScale(zoom, level.zoom);
      const corner = level.origin.multiplyBy(scale).subtract(this._map._getNewPixelOrigin(center, zoom));
      L.DomUtil.setTransform(level.el, corner, scale);
    },
  });

  const SceneLayer = Tiles.extend({
    createTile(coords, done) {
      const text = data.layers.scene[keyOf(coords)];
      if (!text) { const none = document.createElement("div"); setTimeout(() => done(null, none)); return none; }
      const image = document.createElement("img");
      image.alt = "";
      image.onload = () => done(null, image);
      image.onerror = () => done(new Error("tile"), image);
      image.src = `data:${data.sceneType};base64,${text}`;
      return image;
    },
  });

  // Codes come as bytes, not as a picture: exact in every browser, and a class is switched off by one table.
  const CodeLayer = Tiles.extend({
    initialize(name, table, options) {
      L.GridLayer.prototype.initialize.call(this, options);
      this._name = name;
      this._table = table;
      this._painted = new Map();
      this.on("tileunload", (event) => this._painted.delete(keyOf(event.coords)));
    },
    createTile(coords, done) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = sidePx;
      canvas.className = "crisp";
      this._codes(coords).then((codes) => {
        if (!codes) { done(null, canvas); return; }
        this._painted.set(keyOf(coords), { canvas, codes });
        paint(canvas, codes, this._table());
        done(null, canvas);
      }).catch((error) => done(error, canvas));
      return canvas;
    },
    async _codes(coords) {
      if (coords.z > data.lastZooms[this._name]) return enlarged(this._name, coords);
      const text = data.layers[this._name][keyOf(coords)];
      return text ? inflate(text) : null;
    },
    repaint() {
      const table = this._table();
      for (const { canvas, codes } of this._painted.values()) paint(canvas, codes, table);
    },
    valueAt(latlng) {
      for (let zoom = maxZoom; zoom >= firstZoom; zoom--) {
        const point = crs.latLngToPoint(latlng, zoom).floor();
        const [x, y] = [Math.floor(point.x / tilePx), Math.floor(point.y / tilePx)];
        const tile = this._painted.get(`${zoom}/${x}/${y}`);
        if (tile) return tile.codes[(point.y - y * tilePx) * sidePx + point.x - x * tilePx];
      }
      return NODATA;
    },
  });

  // The deepest tiles hold the map's pixels, warped: on the screen a pixel of the map would end up to half a tile's
  // pixel away from its edge, which is much when enlarged. So each place is given the class at the middle of its pixel.
  const kept = new Map(); // codes of the deepest tiles, those used last at the end
  async function deepest(name, x, y) {
    const key = `${name}/${data.lastZooms[name]}/${x}/${y}`;
    const text = data.layers[name][key.slice(name.length + 1)];
    const codes = kept.get(key) || (text ? inflate(text) : Promise.resolve(null));
    kept.delete(key);
    kept.set(key, codes);
    if (kept.size > 24) kept.delete(kept.keys().next().value);
    return codes;
  }
  function mapPixel(x, y) { // (column, row) of the map, from places of the deepest tiles' plane
    const [a, b, c, d, e, f] = data.pixels.transform;
    const [mapX, mapY] = own(x, y);
    return [a * mapX + b * mapY + c, d * mapX + e * mapY + f];
  }
  async function enlarged(name, coords) {
    const zoom = data.lastZooms[name];
    const scale = 2 ** (coords.z - zoom);
    const [fromX, fromY, side] = [coords.x * tilePx / scale, coords.y * tilePx / scale, sidePx / scale]; // pixels of that zoom
    const [firstX, firstY] = [Math.floor((fromX - 2) / tilePx), Math.floor((fromY - 2) / tilePx)];
    const [lastX, lastY] = [Math.floor((fromX + side + 2) / tilePx), Math.floor((fromY + side + 2) / tilePx)];
    const across = lastX - firstX + 1;
    const tiles = await Promise.all(Array.from({ length: across * (lastY - firstY + 1) }, (_, i) => (
      deepest(name, firstX + (i % across), firstY + Math.floor(i / across)))));
    if (!tiles.some(Boolean)) return null;
    const at = (x, y) => {
      const place = crs.transformation.untransform(L.point(x, y), crs.scale(zoom));
      return mapPixel(place.x, place.y);
    };
    const [west, east] = [at(fromX, fromY + side / 2), at(fromX + side, fromY + side / 2)];
    const [north, south] = [at(fromX + side / 2, fromY), at(fromX + side / 2, fromY + side)];
    const [colX, rowX, colY, rowY] = [east[0] - west[0], east[1] - west[1], south[0] - north[0], south[1] - north[1]];
    const unit = side / (colX * rowY - colY * rowX); // back from a step in columns and rows
    const [xCol, xRow, yCol, yRow] = [rowY * unit, -colY * unit, -rowX * unit, colX * unit];
    const codes = new Uint8Array(sidePx * sidePx).fill(NODATA);
    const CELL = 27; // 513 = 19 x 27: straight within so many pixels
    for (let top = 0; top < sidePx; top += CELL) {
      for (let begin = 0; begin < sidePx; begin += CELL) {
        const corners = [[0, 0], [CELL, 0], [0, CELL], [CELL, CELL]].map(([x, y]) => at(fromX + (begin + x) / scale, fromY + (top + y) / scale));
        for (let j = 0; j < CELL; j++) {
          const v = (j + 0.5) / CELL;
          const [leftCol, leftRow] = [0, 1].map((axis) => corners[0][axis] + v * (corners[2][axis] - corners[0][axis]));
          const [rightCol, rightRow] = [0, 1].map((axis) => corners[1][axis] + v * (corners[3][axis] - corners[1][axis]));
          for (let i = 0; i < CELL; i++) {
            const u = (i + 0.5) / CELL;
            const [col, row] = [leftCol + u * (rightCol - leftCol), leftRow + u * (rightRow - leftRow)];
            const [toCol, toRow] = [Math.floor(col) + 0.5 - col, Math.floor(row) + 0.5 - row];
            if (row < 0 || col < 0 || row >= data.pixels.shape[0] || col >= data.pixels.shape[1]) continue;
            const x = Math.floor(fromX + (begin + i + 0.5) / scale + xCol * toCol + xRow * toRow) - firstX * tilePx;
            const y = Math.floor(fromY + (top + j + 0.5) / scale + yCol * toCol + yRow * toRow) - firstY * tilePx;
            const [tileX, tileY] = [Math.floor(x / tilePx), Math.floor(y / tilePx)];
            const tile = tiles[tileY * across + tileX];
            if (tile) codes[(top + j) * sidePx + begin + i] = tile[(y - tileY * tilePx) * sidePx + x - tileX * tilePx];
          }
        }
      }
    }
    return codes;
  }

  const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
  const packed = ([red, green, blue], alpha) => (littleEndian
    ? ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0
    : ((red << 24) | (green << 16) | (blue << 8) | alpha) >>> 0);
  function paint(canvas, codes, table) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(sidePx, sidePx);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < codes.length; i++) pixels[i] = table[codes[i]];
    context.putImageData(image, 0, 0);
  }

  const colorOf = (land) => land.colors[palette];
  function classTable() {
    const table = new Uint32Array(256).fill(packed(UNNAMED, 255));
    for (const land of data.classes) table[land.slot] = hidden.has(land.code) ? 0 : packed(colorOf(land), 255);
    table[NODATA] = 0;
    return table;
  }
  // From dark purple (unsure) through teal to light yellow (sure): even in lightness, for every eye (viridis).
  const RAMP = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
  function rampColor(share) {
    const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
    const low = Math.min(Math.floor(place), RAMP.length - 2);
    return RAMP[low].map((level, i) => Math.round(level + (RAMP[low + 1][i] - level) * (place - low)));
  }
  function confidenceTable() {
    const table = new Uint32Array(256);
    for (let percent = 0; percent <= 100; percent++) table[percent] = packed(rampColor(percent / 100), 255);
    return table;
  }

  if (hasScene) new SceneLayer(tileOptions("scene", "scene")).addTo(map);
  const classLayer = new CodeLayer("classes", classTable, tileOptions(hasLater ? "earlier" : "cover", "classes")).addTo(map);
  const laterLayer = hasLater ? new CodeLayer("later", classTable, tileOptions("cover", "later")).addTo(map) : null;
  const confidenceLayer = hasConfidence ? new CodeLayer("confidence", confidenceTable, tileOptions("cover", "confidence")) : null;

  // --- Words and numbers --------------------------------------------------------------------------------------
  function grouped(number) {
    return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  }
  function rounded(value, digits) {
    const [whole, rest] = value.toFixed(digits).split(".");
    return `${grouped(whole)}${rest ? `.${rest}` : ""}`;
  }
  function amount(area, inPx, like = area) { // in the unit that suits `like`
    if (inPx) return `${grouped(Math.round(area))} px`;
    const [unit, size] = like >= 1e6 ? ["km\u00b2", 1e6] : like >= 1e4 ? ["ha", 1e4] : ["m\u00b2", 1];
    const value = area / size;
    const digits = Math.abs(value) >= 100 || (unit === "m\u00b2" && Math.abs(value) >= 10) ? 0 : Math.abs(value) >= 1 ? 1 : 2;
    return `${rounded(value, digits)} ${unit}`;
  }
  function length(value, inPx) {
    if (inPx) return `${grouped(Math.round(value))} px`;
    return value >= 1e4 ? `${rounded(value / 1000, value >= 1e5 ? 0 : 1)} km` : `${rounded(value, value >= 10 ? 0 : 1)} m`;
  }
  const share = (part) => (part > 0 && part < 0.0005 ? "< 0.1 %" : `${(part * 100).toFixed(1)} %`);
  const percent = (value) => `${Math.round(value)} %`;
  const hex = (color) => `#${color.map((level) => level.toString(16).padStart(2, "0")).join("")}`;
  const breakable = (text) => text.split("_").flatMap((part, i) => (i ? ["_", element("wbr"), part] : [part]));
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // --- Polygons -----------------------------------------------------------------------------------------------
  const outlines = L.layerGroup();
  const outlineOf = []; // { code, shape, number }: what the file says of it is data.polygons.shapes[number]
  // Vertices at fractions of a screen pixel: Leaflet would round them away from the edges that they follow.
  const Outline = L.Polygon.extend({
    _projectLatlngs(latlngs, rings, bounds) {
      if (!(latlngs[0] instanceof L.LatLng)) {
        for (const ring of latlngs) this._projectLatlngs(ring, rings, bounds);
        return;
      }
      const origin = this._map.getPixelOrigin();
      const ring = latlngs.map((latlng) => this._map.project(latlng).subtract(origin));
      for (const point of ring) bounds.extend(point);
      rings.push(ring);
    },
  });
  const places = (rings) => rings.map((ring) => {
    const out = [];
    for (let i = 0, x = 0, y = 0; i < ring.length; i += 2) {
      x += ring[i]; y += ring[i + 1];
      out.push(toLatLng(left + x * data.polygons.step, top - y * data.polygons.step));
    }
    return out;
  });
  function buildOutlines() {
    const renderer = L.canvas({ padding: 0.2 });
    data.polygons.shapes.forEach(([code, , , , , ...rings], number) => {
      const shape = new Outline(places(rings), {
        renderer, color: "#14181c", weight: 1, opacity: 0.8, fill: true, fillOpacity: 0, smoothFactor: 0.4,
      });
      const found = { code, shape, number };
      shape.on("click", (event) => { L.DomEvent.stop(event); choose(found, event.latlng); read(event.latlng); });
      outlineOf.push(found);
    });
  }
  function showOutlines() {
    for (const { code, shape } of outlineOf) {
      if (hidden.has(code)) outlines.removeLayer(shape); else if (!outlines.hasLayer(shape)) outlines.addLayer(shape);
    }
    if (chosen && hidden.has(chosen.code)) leave();
    if (data.polygons) describe();
  }

  // One polygon is the chosen one: by a click, or by keys, from the largest to the smallest.
  let chosen = null;
  let inOrder = [];
  const mark = L.layerGroup();
  const card = L.popup({ autoPanPadding: [12, 12], closeButton: true });
  const choosable = () => inOrder.filter(({ code }) => !hidden.has(code));
  const outlinesShown = () => Boolean(data.polygons) && byId("outlines").checked;
  function choose(found, latlng) {
    chosen = found;
    mark.clearLayers();
    const same = { interactive: false, fill: false, smoothFactor: 0.4, renderer: found.shape.options.renderer };
    mark.addLayer(new Outline(found.shape.getLatLngs(), { ...same, color: "#fff", weight: 6, opacity: 0.95 }));
    mark.addLayer(new Outline(found.shape.getLatLngs(), {
      ...same, color: "#c2185b", weight: 3, opacity: 1, fill: true, fillColor: "#c2185b", fillOpacity: 0.18,
    }));
    mark.addTo(map);
    if (latlng) card.setLatLng(latlng).setContent(cardOf(found)).openOn(map); else card.close();
    describe();
  }
  function leave() {
    chosen = null;
    mark.remove();
    card.close();
    if (data.polygons) describe();
  }
  function cardOf({ number }) {
    const [code, name, area, perimeter, confidence] = data.polygons.shapes[number];
    const { names, inPx } = data.polygons;
    const facts = [["Area", amount(area, inPx)], ["Code", String(code)]];
    if (perimeter !== null) facts.push(["Perimeter", length(perimeter, inPx)]);
    if (confidence !== null) facts.push(["Confidence", percent(confidence)]);
    return element("div", { className: "card" },
      element("strong", { textContent: names[name] }),
      element("dl", {}, ...facts.flatMap(([term, said]) => [
        element("dt", { textContent: term }), element("dd", { textContent: said })])));
  }
  function describe() { // what the spin button says
    const list = choosable();
    const place = list.indexOf(chosen);
    const picker = byId("chosen");
    const [, name, area] = chosen ? data.polygons.shapes[chosen.number] : [];
    const what = chosen ? `${data.polygons.names[name]}, ${amount(area, data.polygons.inPx)}` : "none chosen";
    picker.textContent = chosen ? what : "Choose a polygon";
    picker.title = what;
    const values = { valuemin: list.length ? 1 : 0, valuemax: list.length, valuenow: place + 1 };
    values.valuetext = chosen ? `${place + 1} of ${list.length}: ${what}` : what;
    for (const [key, value] of Object.entries(values)) picker.setAttribute(`aria-${key}`, String(value));
    for (const id of ["previous", "next"]) byId(id).disabled = !list.length;
  }
  function step(by) { // to the next polygon, in view; from none to the first or the last
    const list = choosable();
    if (!list.length) return;
    const from = list.indexOf(chosen);
    const to = by === Infinity ? list.length - 1 : by === -Infinity ? 0
      : from < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(from + by, 0), list.length - 1);
    const isOpen = card.isOpen();
    choose(list[to], isOpen ? insideOf(list[to]) : null);
    const around = list[to].shape.getBounds();
    if (!map.getBounds().contains(around)) map.fitBounds(around.pad(0.25), { maxZoom: map.getZoom(), animate: false });
  }
  function insideOf({ shape }) { // a place inside a polygon: the middle of its widest part on some lines across it
    const around = shape.getBounds();
    const rings = shape.getLatLngs();
    let best = null;
    for (let part = 0.1; part < 0.95; part += 0.1) {
      const lat = around.getSouth() + part * (around.getNorth() - around.getSouth());
      const cuts = rings.flatMap((ring) => ring.flatMap((one, i) => {
        const other = ring[(i + 1) % ring.length];
        return (one.lat > lat) === (other.lat > lat) ? []
          : [one.lng + ((lat - one.lat) / (other.lat - one.lat)) * (other.lng - one.lng)];
      })).sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        const width = cuts[i + 1] - cuts[i];
        if (!best || width > best.width) best = { width, at: L.latLng(lat, (cuts[i] + cuts[i + 1]) / 2) };
      }
    }
    return best ? best.at : around.getCenter();
  }
  function underPoint(latlng) { // the polygon at a place, if one is
    const point = map.latLngToLayerPoint(latlng);
    return choosable().findLast(({ shape }) => shape._containsPoint(point)) || null;
  }
  function keyOnPolygons(event) {
    const steps = {
      ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity,
    };
    if (event.key in steps) step(steps[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && chosen) choose(chosen, insideOf(chosen));
    else if (event.key === "Enter" || event.key === " ") step(1);
    else if (event.key === "Escape" && card.isOpen()) card.close();
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
  }
  if (data.polygons) {
    buildOutlines();
    inOrder = [...outlineOf].sort((a, b) => data.polygons.shapes[b.number][2] - data.polygons.shapes[a.number][2]);
    showOutlines();
    outlines.addTo(map);
    byId("outlines-row").hidden = false;
    byId("picker").hidden = !outlineOf.length;
    byId("outlines-name").textContent = `${grouped(data.polygons.count)} polygon${data.polygons.count === 1 ? "" : "s"}`;
    byId("outlines").addEventListener("change", () => setOutlines(byId("outlines").checked));
    byId("chosen").addEventListener("keydown", keyOnPolygons);
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    map.on("popupclose", () => { if (chosen) describe(); });
    map.on("click", leave);
    map.getContainer().addEventListener("keydown", (event) => {
      if (event.target !== map.getContainer() || !outlinesShown()) return;
      const found = event.key === "Enter" ? underPoint(map.getCenter()) : null;
      if (found) choose(found, map.getCenter());
      if (event.key === "Escape") leave();
    });
    const { least, count, shapes, inPx } = data.polygons;
    const hints = [];
    if (least) {
      hints.push(`Specks without an outline are smaller than the smallest polygon, ${amount(least, inPx)}: they are counted in the polygon around them.`);
    }
    if (shapes.length < count) {
      hints.push(`${grouped(count - shapes.length)} polygon${count - shapes.length === 1 ? " is" : "s are"} too small to be seen here.`);
    }
    byId("specks").textContent = hints.join(" ");
    byId("specks").hidden = !hints.length;
  }
  function setOutlines(on) {
    byId("outlines").checked = on;
    if (on) outlines.addTo(map); else { outlines.remove(); leave(); }
    byId("picker").hidden = !on || !outlineOf.length;
    noteState();
  }

  // --- Swipe and opacity --------------------------------------------------------------------------------------
  const stage = byId("stage");
  const swipe = byId("swipe");
  const cover = map.getPane("cover");
  let swiped = 50; // percent of the width that shows the scene
  const sides = hasLater ? data.later.names : ["Scene", "Land cover"];
  function clip() {
    if (!hasSwipe) return;
    const size = map.getSize();
    const from = map.containerPointToLayerPoint([0, 0]);
    const x = (size.x * swiped) / 100;
    // The pane has no size of its own: `clip` reckons from its origin, where clip-path would reckon from its box.
    const rect = (begin, end) => `rect(${from.y}px, ${from.x + end}px, ${from.y + size.y}px, ${from.x + begin}px)`;
    cover.style.clip = rect(x, size.x);
    if (hasLater) map.getPane("earlier").style.clip = rect(0, x);
    swipe.style.left = `${x}px`;
    byId("left-side").style.right = `${size.x - x + 12}px`;
    byId("right-side").style.left = `${x + 12}px`;
    byId("left-side").hidden = x < 90;
    byId("right-side").hidden = size.x - x < 130;
  }
  function setSwipe(percents) {
    swiped = Math.min(100, Math.max(0, percents));
    const here = Math.round(swiped);
    swipe.setAttribute("aria-valuenow", String(here));
    swipe.setAttribute("aria-valuetext", `${here} % ${hasLater ? sides[0] : "scene"}, ${100 - here} % ${hasLater ? sides[1] : "land cover"}`);
    clip();
    noteState();
  }
  if (hasSwipe) {
    swipe.hidden = false;
    if (hasLater) swipe.setAttribute("aria-label", `Swipe between ${sides[0]} and ${sides[1]}`);
    [byId("left-side").textContent, byId("right-side").textContent] = sides;
    L.DomEvent.disableClickPropagation(swipe);
    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      setSwipe(((event.clientX - box.left) / box.width) * 100);
    };
    swipe.addEventListener("pointerdown", (event) => {
      swipe.setPointerCapture(event.pointerId);
      swipe.focus({ preventScroll: true });
      event.preventDefault();
    });
    swipe.addEventListener("pointermove", (event) => { if (swipe.hasPointerCapture(event.pointerId)) drag(event); });
    swipe.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageUp: 10, PageDown: -10, Home: -100, End: 100 };
      if (!(event.key in steps)) return;
      setSwipe(swiped + steps[event.key]);
      event.preventDefault();
    });
    map.on("move zoom resize viewreset zoomend", clip);
    setSwipe(50);
  }
  function setOpacity(percents) {
    byId("opacity").value = String(percents);
    for (const pane of ["earlier", "cover"]) map.getPane(pane).style.opacity = String(percents / 100);
    noteState();
  }
  byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value));

  // --- Legend -------------------------------------------------------------------------------------------------
  const sum = (key) => data.classes.reduce((all, land) => all + land[key], 0);
  const [total, totalLater] = [sum("area"), hasLater ? sum("later") : 0];
  const most = Math.max(...data.classes.flatMap((land) => [land.area, land.later || 0]), 0) || 1;
  const rows = new Map();
  const signed = (area) => (area === 0 ? "0" : `${area > 0 ? "+" : "\u2212"}${amount(Math.abs(area), data.inPx, most)}`);
  const cellsOf = (land) => (hasLater
    ? [["", amount(land.area, data.inPx, most)], ["", amount(land.later, data.inPx, most)], ["share", signed(land.later - land.area)]]
    : [["", amount(land.area, data.inPx)], ["share", share(land.area / (total || 1))]]);
  const swatch = (land) => { // a square in the color of a class, whatever the palette
    const made = element("i", { className: "swatch" });
    made.setAttribute("aria-hidden", "true");
    swatches.push([land, made]);
    return made;
  };
  const swatches = [];

  function legendRow(land) {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { setHidden(land.code, !box.checked); refresh(); });
    const bar = element("i");
    bar.style.width = `${(100 * (hasLater ? land.later : land.area)) / most}%`;
    const row = element("tr", {},
      element("th", { scope: "row" }, element("label", { title: land.name }, box, element("span", {}, ...breakable(land.name)))),
      ...cellsOf(land).map(([className, textContent]) => element("td", { className, textContent })));
    const track = element("div", { className: "bar" }, bar);
    const below = element("tr", { className: "bars" }, element("td", { colSpan: row.children.length }, track));
    below.setAttribute("aria-hidden", "true");
    rows.set(land.code, { row, below, box, bar });
    return [row, below];
  }
  function setHidden(code, hide) {
    if (hide) hidden.add(code); else hidden.delete(code);
  }
  function refresh() {
    for (const [code, { row, below, box, bar }] of rows) {
      const color = colorOf(byCode.get(code));
      const light = (color[0] * 299 + color[1] * 587 + color[2] * 114) / 1000 > 150;
      box.checked = !hidden.has(code);
      box.style.setProperty("--swatch", hex(color));
      box.style.setProperty("--tick", light ? "#000" : "#fff");
      bar.style.background = hex(color);
      row.classList.toggle("off", hidden.has(code));
      below.classList.toggle("off", hidden.has(code));
    }
    for (const [land, made] of swatches) made.style.background = hex(colorOf(land));
    byId("palette").value = palette;
    classLayer.repaint();
    if (laterLayer) laterLayer.repaint();
    showOutlines();
    fitPaper();
    noteState();
  }
  byId("classes").append(...[...data.classes].sort((a, b) => Math.max(b.area, b.later || 0) - Math.max(a.area, a.later || 0)).flatMap(legendRow));
  byId("total").textContent = amount(total, data.inPx, most);
  if (hasLater) {
    byId("panel").classList.add("two");
    byId("columns").classList.remove("unseen");
    byId("columns").replaceChildren(element("tr", {}, ...["Class", ...sides, "Change"].map((textContent) => element("th", { scope: "col", textContent }))));
    byId("total").after(element("td", { textContent: amount(totalLater, data.inPx, most) }));
  }
  byId("all").addEventListener("click", () => { hidden.clear(); refresh(); });
  byId("none").addEventListener("click", () => { for (const land of data.classes) hidden.add(land.code); refresh(); });
  byId("palette").append(...data.palettes.map(([value, textContent]) => element("option", { value, textContent })));
  byId("palette").addEventListener("change", (event) => { palette = event.target.value; refresh(); });

  // A program for tables takes what begins with one of these for a formula, and class names are anybody's text.
  const field = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  function table() {
    const unit = data.inPx ? "px" : "m2";
    const measures = hasLater ? [`area_${unit}`, `later_area_${unit}`, `change_${unit}`] : [`area_${unit}`, "share_percent"];
    const lines = [...data.classes].sort((a, b) => a.code - b.code).map((land) => [land.code, field(land.name),
      ...(hasLater ? [land.area, land.later, land.later - land.area] : [land.area, (100 * land.area) / (total || 1)])
        .map((value) => +value.toPrecision(9)), hex(land.own)]);
    return [["code", "name", ...measures, "color"], ...lines].map((line) => `${line.join(",")}\r\n`).join("");
  }
  byId("csv").addEventListener("click", () => {
    const name = `${document.title.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "classes"}.csv`;
    const link = element("a", { href: `data:text/csv;charset=utf-8,%EF%BB%BF${encodeURIComponent(table())}`, download: name });
    document.body.append(link);
    link.click();
    link.remove();
  });

  if (data.later?.pairs.length) {
    const changed = data.later.pairs.filter(([from, to]) => from !== to).sort((a, b) => b[2] - a[2]);
    const shownPairs = changed.slice(0, MOST_CHANGES);
    byId("changes").hidden = false;
    byId("pairs").append(...shownPairs.map(([from, to, area]) => element("tr", {},
      ...[from, to].map((code, i) => element("td", { className: "what" },
        ...(i ? ["\u2192 "] : []), swatch(byCode.get(code)), ...breakable(byCode.get(code).name))),
      element("td", { textContent: amount(area, data.inPx, most) }))));
    const moved = changed.reduce((all, pair) => all + pair[2], 0);
    const others = (count, className) => {
      const area = changed.slice(count).reduce((all, pair) => all + pair[2], 0);
      const textContent = changed.length > count ? `And ${changed.length - count} others, ${amount(area, data.inPx, most)}. ` : "";
      return element("span", { className, textContent });
    };
    byId("unchanged").append(others(MOST_CHANGES, "upright"), others(MOST_CHANGES / 2, "across"),
      `${share(moved / (total || 1))} of the area changed. Both maps have errors, so a part of the change is not real.`);
  }

  // --- Confidence ---------------------------------------------------------------------------------------------
  if (hasConfidence) {
    byId("show").hidden = false;
    byId("ramp-bar").style.background = `linear-gradient(90deg, ${RAMP.map(hex).join(", ")})`;
    byId("show").addEventListener("change", (event) => show(event.target.value));
  }
  function show(what) {
    shown = what;
    for (const input of byId("show").querySelectorAll("input")) input.checked = input.value === what;
    const [on, off] = shown === "confidence" ? [confidenceLayer, classLayer] : [classLayer, confidenceLayer];
    off.remove();
    on.addTo(map);
    byId("ramp").hidden = shown !== "confidence";
    if (hasScene) byId("right-side").textContent = shown === "confidence" ? "Confidence" : "Land cover";
    noteState();
  }

  // --- Coordinates, scale -------------------------------------------------------------------------------------
  function own(x, y) {
    const { degree, x: forX, y: forY } = data.coordinates;
    const u = (2 * (x - left)) / (right - left) - 1;
    const v = (2 * (y - bottom)) / (top - bottom) - 1;
    let [sumX, sumY, term] = [0, 0, 0];
    for (let i = 0; i <= degree; i++) {
      for (let j = 0; j <= degree - i; j++, term++) {
        const value = u ** i * v ** j;
        sumX += forX[term] * value;
        sumY += forY[term] * value;
      }
    }
    return [sumX, sumY];
  }
  const degrees = (value, [positive, negative]) => `${Math.abs(value).toFixed(5)}\u00b0\u202f${value < 0 ? negative : positive}`;
  function placeText(latlng) {
    const point = toXY(latlng);
    const inside = point.x >= left && point.x <= right && point.y >= bottom && point.y <= top;
    const texts = [];
    if (data.coordinates && inside) texts.push(`${data.coordinates.label} \u2002${own(point.x, point.y).map((value) => value.toFixed(data.coordinates.decimals)).join(", ")}`);
    if (data.earth) texts.push(`${degrees(latlng.lat, "NS")}, ${degrees(latlng.lng, "EW")}`);
    else if (inside) texts.push(`row ${Math.floor(-point.y)}, column ${Math.floor(point.x)}`);
    return texts.map((text) => text.replaceAll(" ", "\u00a0")).join(" \u00b7 ");
  }
  function underText(latlng) {
    const active = shown === "confidence" ? confidenceLayer : classLayer;
    const value = active.valueAt(latlng);
    const later = laterLayer ? laterLayer.valueAt(latlng) : NODATA;
    if (value === NODATA && later === NODATA) return "";
    if (shown === "confidence") return `about ${value} % sure`;
    const [name, laterName] = [value, later].map((slot) => (slot === NODATA ? "nodata" : bySlot.get(slot).name));
    return !laterLayer || name === laterName ? name : `${name} \u2192 ${laterName}`;
  }
  function read(latlng) {
    byId("place").textContent = placeText(latlng);
    byId("under").textContent = underText(latlng);
  }
  byId("place").textContent = "Point at the map, or tap it, to read coordinates.";
  map.on("mousemove click", (event) => read(event.latlng));
  map.on("keyup moveend", () => { if (document.activeElement === map.getContainer()) read(map.getCenter()); });

  const scale = element("div", { className: "scale" });
  const scaleControl = L.control({ position: "bottomleft" });
  scaleControl.onAdd = () => scale;
  scaleControl.addTo(map);
  if (data.earth) {
    const north = L.control({ position: "bottomleft" });
    north.onAdd = () => {
      const made = element("div", { className: "north", title: "North is up" });
      made.setAttribute("role", "img");
      made.setAttribute("aria-label", "North is up");
      made.innerHTML = '<svg width="22" height="34" viewBox="0 0 22 34" aria-hidden="true"><path d="M11 1 20 23 11 18 2 23Z" fill="currentColor"/><text x="11" y="33" text-anchor="middle" font-size="11" font-weight="700" fill="currentColor">N</text></svg>';
      return made;
    };
    north.addTo(map);
  }
  function drawScale() {
    const middle = map.getSize().divideBy(2);
    const ends = [middle, middle.add([160, 0])].map((point) => map.containerPointToLatLng(point));
    const known = data.earth || data.metersPerPx;
    const length = data.earth ? map.distance(...ends) : (ends[1].lng - ends[0].lng) * (data.metersPerPx || 1);
    if (!(length > 0)) return;
    const power = 10 ** Math.floor(Math.log10(length));
    const round = [5, 2, 1].map((step) => step * power).find((step) => step <= length * 1.0001);
    const [unit, size] = !known ? ["px", 1] : round >= 1000 ? ["km", 1000] : round >= 1 ? ["m", 1] : ["cm", 0.01];
    scale.style.width = `${(160 * round) / length}px`;
    scale.textContent = `${+(round / size).toPrecision(2)} ${unit}`;
  }
  map.on("move zoomend resize", drawScale);
  drawScale();

  // --- The address: view, classes and all else that was chosen stand in it ------------------------------------------
  const viewText = () => {
    const center = toXY(map.getCenter());
    return data.earth
      ? `${map.getCenter().lat.toFixed(6)},${map.getCenter().lng.toFixed(6)},${+map.getZoom().toFixed(2)}`
      : `${center.x.toFixed(1)},${center.y.toFixed(1)},${+map.getZoom().toFixed(2)}`;
  };
  function stateText() {
    const parts = [];
    if (viewText() !== wholeView) parts.push(["at", viewText()]);
    if (hidden.size) parts.push(["off", [...hidden].sort((a, b) => a - b).join(",")]);
    if (hasSwipe && Math.round(swiped) !== 50) parts.push(["swipe", Math.round(swiped)]);
    if (byId("opacity").value !== "100") parts.push(["opacity", byId("opacity").value]);
    if (shown !== "classes") parts.push(["show", shown]);
    if (palette !== data.palettes[0][0]) parts.push(["colors", palette]);
    if (data.polygons && !byId("outlines").checked) parts.push(["polygons", "off"]);
    return parts.map(([key, value]) => `${key}=${value}`).join("&");
  }
  function noteState() { // not at each of many moves: browsers allow some hundred a minute
    if (!noting) return;
    clearTimeout(noting);
    noting = setTimeout(() => {
      const text = stateText() && `#${stateText()}`;
      if (text === location.hash || location.hash !== address) return; // another one, which is about to be read
      try {
        history.replaceState(null, "", text || "#");
        address = location.hash;
      } catch { /* a page inside another has no address of its own */ }
    }, 250);
  }
  const within = (text, low, high) => {
    const value = text.trim() === "" ? NaN : Number(text);
    return value >= low && value <= high ? value : null;
  };
  function readState() {
    address = location.hash;
    const said = new URLSearchParams(location.hash.slice(1));
    const at = (said.get("at") || "").split(",");
    const [y, x] = data.earth ? [within(at[0], -90, 90), within(at[1] || "", -360, 360)] : [within(at[1] || "", -1e9, 1e9), within(at[0], -1e9, 1e9)];
    const zoom = within(at[2] || "", map.getMinZoom(), map.getMaxZoom());
    if (at.length === 3 && x !== null && y !== null && zoom !== null) {
      map.setView(data.earth ? [y, x] : toLatLng(x, y), zoom, { animate: false });
    } else showWhole();
    hidden.clear();
    for (const code of (said.get("off") || "").split(",").filter(Boolean).map(Number)) if (byCode.has(code)) hidden.add(code);
    const colors = said.get("colors");
    palette = data.palettes.some(([name]) => name === colors) ? colors : data.palettes[0][0];
    const [swipeTo, opacity] = ["swipe", "opacity"].map((key) => within(said.get(key) || "", 0, 100));
    if (hasSwipe) setSwipe(swipeTo === null ? 50 : swipeTo);
    setOpacity(opacity === null ? 100 : opacity);
    if (hasConfidence) show(said.get("show") === "confidence" ? "confidence" : "classes");
    if (data.polygons) setOutlines(said.get("polygons") !== "off");
    refresh();
  }

  // --- The rest -----------------------------------------------------------------------------------------------
  byId("facts").textContent = data.facts;
  byId("description").append(...data.description.map((textContent) => element("p", { textContent })));
  if (data.cautions.length) {
    byId("cautions").hidden = false;
    byId("cautions").append(...data.cautions.map((textContent) => element("p", { textContent })));
  }
  const notes = [];
  if (data.countedStep > 1) notes.push(`Areas are estimated from an overview: one pixel in ${data.countedStep} along each side.`);
  if (lastZoom < nativeZoom) {
    notes.push(`The map is shown at 1 : ${2 ** (nativeZoom - lastZoom)} of full resolution to keep this page small.`);
  }
  if (hasScene && data.lastZooms.scene < Math.min(lastZoom, nativeZoom)) {
    notes.push(`The scene is shown at 1 : ${2 ** (nativeZoom - data.lastZooms.scene)}.`);
  }
  if (!data.earth) notes.push("Shown in its own pixels: Web Mercator cannot show where this map lies.");
  if (hasLater) notes.push("Areas and changes count only where both maps have a class.");
  notes.push(...data.origins);
  byId("notes").append(
    ...notes.map((textContent) => element("p", { textContent })),
    element("p", { id: "made", textContent: `Made with geoseg ${data.version}; map by Leaflet.` }),
    element("p", { id: "printed" }));
  function datePaper() {
    const day = new Date().toLocaleDateString("en", { day: "numeric", month: "long", year: "numeric" });
    byId("printed").textContent = `Printed on ${day}.`;
  }
  datePaper();
  addEventListener("beforeprint", datePaper);
  if (!data.classes.length) {
    byId("message").hidden = false;
    byId("message").textContent = "No pixel of this map holds a class: it is all nodata.";
    byId("legend").hidden = true;
  }
  if (typeof DecompressionStream === "undefined") {
    byId("message").hidden = false;
    byId("message").textContent = "This browser is too old for this page; one from 2023 or later shows it.";
  }
  refresh();
  function fitPaper() { // the style sheet scales the map to what the other things leave of a sheet
    const { clientWidth: width, clientHeight: height } = stage;
    if (matchMedia("print").matches || !width || !height) return;
    const lines = data.classes.length - hidden.size;
    const columns = hasLater ? (lines > 14 ? 2 : 1) : lines > 40 ? 3 : lines > 3 ? 2 : 1;
    const beside = lines > 14 ? columns : 1; // of a sheet that lies across
    const sizes = { "--stage-width": `${width}px`, "--stage-height": `${height}px`, "--stage-ratio": height / width, "--columns": columns,
      "--columns-beside": beside, "--beside": `${(hasLater ? [400, 640] : [290, 480, 600])[beside - 1]}px` };
    for (const [name, value] of Object.entries(sizes)) document.body.style.setProperty(name, value);
    byId("legend").classList.toggle("dense", lines > (hasLater ? 4 : 11));
    byId("legend").classList.toggle("three", columns === 3);
  }
  function resized() {
    if (matchMedia("print").matches || !stage.clientWidth || !stage.clientHeight) return;
    const wasWhole = viewText() === wholeView;
    map.invalidateSize({ animate: false });
    if (wasWhole) { showWhole(); wholeView = viewText(); }
    fitPaper();
  }
  wholeView = viewText();
  new ResizeObserver(resized).observe(stage);
  resized();
  readState();
  noting = setTimeout(() => {}, 0);
  map.on("moveend zoomend", noteState);
  addEventListener("hashchange", readState);
  document.documentElement.dataset.ready = "yes";
  globalThis.geosegPage = { map, bounds: data.bounds, classLayer, laterLayer, setSwipe, toXY, toLatLng, placeText, underText };
})();
