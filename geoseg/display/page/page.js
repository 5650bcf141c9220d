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
  const hidden = new Set();
  const byCode = new Map(data.classes.map((land) => [land.code, land]));
  const bySlot = new Map(data.classes.map((land) => [land.slot, land])); // what tiles hold: a byte for each code
  let palette = data.palette;
  let shown = "classes";

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

  const colorOf = (land) => (palette === "color-blind" ? land.safe : land.own);
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
  const classLayer = new CodeLayer("classes", classTable, tileOptions("cover", "classes")).addTo(map);
  const confidenceLayer = hasConfidence ? new CodeLayer("confidence", confidenceTable, tileOptions("cover", "confidence")) : null;

  // --- Polygons -----------------------------------------------------------------------------------------------
  const outlines = L.layerGroup();
  const outlineOf = [];
  function popup(name, area) {
    const box = document.createElement("div");
    box.append(Object.assign(document.createElement("strong"), { textContent: name }));
    box.append(Object.assign(document.createElement("p"), { textContent: area }));
    return box;
  }
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
  function buildOutlines() {
    const { step, names, shapes, inPx } = data.polygons;
    const renderer = L.canvas({ padding: 0.2 });
    for (const [code, name, area, ...rings] of shapes) {
      const places = rings.map((ring) => {
        const out = [];
        for (let i = 0, x = 0, y = 0; i < ring.length; i += 2) {
          x += ring[i]; y += ring[i + 1];
          out.push(toLatLng(left + x * step, top - y * step));
        }
        return out;
      });
      const shape = new Outline(places, {
        renderer, color: "#14181c", weight: 1, opacity: 0.8, fill: true, fillOpacity: 0, smoothFactor: 0.4,
      });
      shape.bindPopup(() => popup(names[name], amount(area, inPx)));
      shape.on("popupopen popupclose", (event) => shape.setStyle({ weight: event.type === "popupopen" ? 3 : 1 }));
      outlineOf.push([code, shape]);
    }
  }
  function showOutlines() {
    for (const [code, shape] of outlineOf) {
      if (hidden.has(code)) outlines.removeLayer(shape); else if (!outlines.hasLayer(shape)) outlines.addLayer(shape);
    }
  }
  if (data.polygons) {
    buildOutlines();
    showOutlines();
    outlines.addTo(map);
    byId("outlines-row").hidden = false;
    byId("outlines-name").textContent = `${grouped(data.polygons.count)} polygon${data.polygons.count === 1 ? "" : "s"}`;
    byId("outlines").addEventListener("change", (event) => {
      if (event.target.checked) outlines.addTo(map); else outlines.remove();
    });
  }

  // --- Swipe and opacity --------------------------------------------------------------------------------------
  const stage = byId("stage");
  const swipe = byId("swipe");
  const cover = map.getPane("cover");
  let swiped = 50; // percent of the width that shows the scene
  function clip() {
    if (!hasScene) return;
    const size = map.getSize();
    const from = map.containerPointToLayerPoint([0, 0]);
    const x = (size.x * swiped) / 100;
    // The pane has no size of its own: `clip` reckons from its origin, where clip-path would reckon from its box.
    cover.style.clip = `rect(${from.y}px, ${from.x + size.x}px, ${from.y + size.y}px, ${from.x + x}px)`;
    swipe.style.left = `${x}px`;
    byId("left-side").style.right = `${size.x - x + 12}px`;
    byId("right-side").style.left = `${x + 12}px`;
    byId("left-side").hidden = x < 90;
    byId("right-side").hidden = size.x - x < 130;
  }
  function setSwipe(percent) {
    swiped = Math.min(100, Math.max(0, percent));
    swipe.setAttribute("aria-valuenow", String(Math.round(swiped)));
    swipe.setAttribute("aria-valuetext", `${Math.round(swiped)} % scene, ${100 - Math.round(swiped)} % land cover`);
    clip();
  }
  if (hasScene) {
    swipe.hidden = false;
    byId("left-side").textContent = "Scene";
    byId("right-side").textContent = "Land cover";
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
  byId("opacity").addEventListener("input", (event) => { cover.style.opacity = String(event.target.value / 100); });

  // --- Legend -------------------------------------------------------------------------------------------------
  function grouped(number) {
    return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
  }
  function amount(area, inPx, like = area) { // in the unit that suits `like`
    if (inPx) return `${grouped(Math.round(area))} px`;
    const [unit, size] = like >= 1e6 ? ["km\u00b2", 1e6] : like >= 1e4 ? ["ha", 1e4] : ["m\u00b2", 1];
    const value = area / size;
    const digits = value >= 100 || (unit === "m\u00b2" && value >= 10) ? 0 : value >= 1 ? 1 : 2;
    const [whole, rest] = value.toFixed(digits).split(".");
    return `${grouped(whole)}${rest ? `.${rest}` : ""} ${unit}`;
  }
  const share = (part) => (part > 0 && part < 0.0005 ? "< 0.1 %" : `${(part * 100).toFixed(1)} %`);
  const hex = (color) => `#${color.map((level) => level.toString(16).padStart(2, "0")).join("")}`;
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const total = data.classes.reduce((sum, land) => sum + land.area, 0);
  const most = Math.max(...data.classes.map((land) => land.area), 0) || 1;
  const rows = new Map();

  function legendRow(land) {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { setHidden(land.code, !box.checked); refresh(); });
    const bar = element("i");
    bar.style.width = `${(100 * land.area) / most}%`;
    const row = element("tr", {},
      element("th", { scope: "row" }, element("label", { title: land.name }, box, element("span", { textContent: land.name }))),
      element("td", { textContent: amount(land.area, data.inPx) }),
      element("td", { className: "share", textContent: share(land.area / (total || 1)) }));
    const track = element("div", { className: "bar" }, bar);
    const below = element("tr", { className: "bars" }, element("td", { colSpan: 3 }, track));
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
    classLayer.repaint();
    showOutlines();
  }
  byId("classes").append(...[...data.classes].sort((a, b) => b.area - a.area).flatMap(legendRow));
  byId("total").textContent = amount(total, data.inPx, most);
  byId("all").addEventListener("click", () => { hidden.clear(); refresh(); });
  byId("none").addEventListener("click", () => { for (const land of data.classes) hidden.add(land.code); refresh(); });
  byId("palette").value = palette;
  byId("palette").addEventListener("change", (event) => { palette = event.target.value; refresh(); });

  // --- Confidence ---------------------------------------------------------------------------------------------
  if (hasConfidence) {
    byId("show").hidden = false;
    byId("ramp-bar").style.background = `linear-gradient(90deg, ${RAMP.map(hex).join(", ")})`;
    byId("show").addEventListener("change", (event) => {
      shown = event.target.value;
      const [on, off] = shown === "confidence" ? [confidenceLayer, classLayer] : [classLayer, confidenceLayer];
      off.remove();
      on.addTo(map);
      byId("ramp").hidden = shown !== "confidence";
      if (hasScene) byId("right-side").textContent = shown === "confidence" ? "Confidence" : "Land cover";
    });
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
    if (value === NODATA) return "";
    if (shown === "confidence") return `about ${value} % sure`;
    return bySlot.get(value).name;
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
  function drawScale() {
    const middle = map.getSize().divideBy(2);
    const ends = [middle, middle.add([130, 0])].map((point) => map.containerPointToLatLng(point));
    const known = data.earth || data.metresPerPx;
    const length = data.earth ? map.distance(...ends) : (ends[1].lng - ends[0].lng) * (data.metresPerPx || 1);
    if (!(length > 0)) return;
    const power = 10 ** Math.floor(Math.log10(length));
    const round = [5, 2, 1].map((step) => step * power).find((step) => step <= length * 1.0001);
    const [unit, size] = !known ? ["px", 1] : round >= 1000 ? ["km", 1000] : round >= 1 ? ["m", 1] : ["cm", 0.01];
    scale.style.width = `${(130 * round) / length}px`;
    scale.textContent = `${+(round / size).toPrecision(2)} ${unit}`;
  }
  map.on("move zoomend resize", drawScale);
  drawScale();

  // --- The rest -----------------------------------------------------------------------------------------------
  byId("facts").textContent = data.facts;
  const notes = [];
  if (data.countedStep > 1) notes.push(`Areas are estimated from an overview: one pixel in ${data.countedStep} along each side.`);
  if (lastZoom < nativeZoom) {
    notes.push(`The map is shown at 1 : ${2 ** (nativeZoom - lastZoom)} of full resolution to keep this page small.`);
  }
  if (hasScene && data.lastZooms.scene < Math.min(lastZoom, nativeZoom)) {
    notes.push(`The scene is shown at 1 : ${2 ** (nativeZoom - data.lastZooms.scene)}.`);
  }
  if (!data.earth) notes.push("Shown as its own pixels: this map has no place that Web Mercator can show.");
  const origins = [["Scene", data.sceneName], ["Model", data.model]].filter(([, name]) => name);
  if (origins.length) notes.push(origins.map(([kind, name]) => `${kind}: ${name}`).join(" \u00b7 "));
  notes.push(`Made with geoseg ${data.version}; map by Leaflet.`);
  byId("notes").append(...notes.map((text) => element("p", { textContent: text })));
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
  const PAPER = [700, 620]; // pixels of a portrait page that the map may have, A4 or letter
  function resized() {
    const { clientWidth: width, clientHeight: height } = stage;
    if (matchMedia("print").matches || !width || !height) return;
    map.invalidateSize({ animate: false });
    const fitting = Math.min(1, PAPER[0] / width, PAPER[1] / height);
    for (const [name, value] of [["--stage-width", `${width}px`], ["--stage-height", `${height}px`], ["--print-zoom", fitting]]) {
      stage.style.setProperty(name, value);
    }
  }
  new ResizeObserver(resized).observe(stage);
  resized();
  document.documentElement.dataset.ready = "yes";
  globalThis.geosegPage = { map, bounds: data.bounds, classLayer, setSwipe, toXY, toLatLng, placeText, underText };
})();
