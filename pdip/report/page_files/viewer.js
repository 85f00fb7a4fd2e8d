"use strict";
/* Linked pictures: every number shown is computed here from the float32 arrays of the page. */
(function () {
  const page = JSON.parse(document.getElementById("page-data").textContent);

  function bytes(text) {
    const binary = atob(text), found = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) found[i] = binary.charCodeAt(i);
    return found;
  }

  const arrays = {}, colours = {};
  for (const [name, text] of Object.entries(page.arrays)) {
    const view = new DataView(bytes(text).buffer);
    const values = new Float32Array(view.byteLength / 4);
    for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
    arrays[name] = values;
  }
  for (const [name, text] of Object.entries(page.colours)) colours[name] = bytes(text);

  /* What a panel shows, from arrays: value of pixel i. */
  const derived = {
    lower: (i) => arrays.image[i] - page.half_width * arrays.std[i],
    upper: (i) => arrays.image[i] + page.half_width * arrays.std[i],
    error: (i) => Math.abs(arrays.image[i] - arrays.truth[i]),
    ratio: (i) => Math.abs(arrays.image[i] - arrays.truth[i]) / arrays.std[i],
    residual: (i) => Math.abs(arrays.signed_residual[i]) / arrays.ray_noise_std[i],
  };
  const valueOf = (name) => derived[name] || ((i) => arrays[name][i]);

  function short(value) {
    if (!Number.isFinite(value)) return "no value";
    return Number(value.toPrecision(4)).toString();
  }

  /* A value with as many decimals as two digits of its standard deviation. */
  function decimals(std) {
    return std > 0 && Number.isFinite(std)
      ? Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(std)))) : 4;
  }

  class Viewer {
    constructor(element, settings) {
      Object.assign(this, settings);
      this.element = element;
      [this.count, this.height, this.width] = settings.shape;
      this.slice = 0;
      this.cursor = null;
      this.view = { x: this.width / 2, y: this.height / 2, zoom: 1 };
      this.readout = element.querySelector(".readout");
      this.panels = [...element.querySelectorAll(".panel")].map((part) => new Panel(this, part));
      this.bindControls();
      this.restWindows();
      this.pick(...settings.start);
    }

    get offset() { return this.slice * this.height * this.width; }

    bindControls() {
      for (const input of this.element.querySelectorAll("input[data-window]"))
        input.addEventListener("input", () => this.slide(input));
      const actions = {
        closer: () => this.zoom(2), farther: () => this.zoom(0.5), whole: () => this.whole(),
        windows: () => { this.restWindows(); this.draw(); },
      };
      for (const [name, action] of Object.entries(actions))
        this.element.querySelector(`[data-action=${name}]`).addEventListener("click", action);
      const chooser = this.element.querySelector("input[data-slice]");
      if (chooser) chooser.addEventListener("input", () => this.show(Number(chooser.value)));
    }

    /* Every window over its full range of values, in the middle where it was suggested. */
    restWindows() {
      for (const [name, window] of Object.entries(this.windows)) {
        window.low = window.start[0];
        window.high = window.start[1];
        this.syncSliders(name);
      }
    }

    slider(name, kind) {
      return this.element.querySelector(`input[data-window=${name}][data-kind=${kind}]`);
    }

    syncSliders(name) {
      const window = this.windows[name], level = this.slider(name, "level");
      if (!level) return;
      const width = this.slider(name, "width"), [least, most] = window.range;
      level.min = least; level.max = most; level.step = (most - least) / 1000;
      width.min = (most - least) / 1000; width.max = most - least; width.step = width.min;
      level.value = (window.low + window.high) / 2;
      width.value = window.high - window.low;
    }

    slide(input) {
      const name = input.dataset.window, window = this.windows[name];
      const level = Number(this.slider(name, "level").value);
      const width = Number(this.slider(name, "width").value);
      window.low = level - width / 2;
      window.high = level + width / 2;
      this.draw();
    }

    show(slice) {
      this.slice = slice;
      for (const panel of this.panels) panel.painted = "";
      const label = this.element.querySelector(".slice-label");
      if (label) label.textContent = this.labels[slice];
      this.draw();
      this.tell();
    }

    zoom(factor, at) {
      const view = this.view, zoom = Math.min(64, Math.max(1, view.zoom * factor));
      at = at || { x: view.x, y: view.y };
      view.x = at.x + (view.x - at.x) * view.zoom / zoom;
      view.y = at.y + (view.y - at.y) * view.zoom / zoom;
      view.zoom = zoom;
      this.within();
      this.draw();
    }

    whole() {
      this.view = { x: this.width / 2, y: this.height / 2, zoom: 1 };
      this.draw();
    }

    within() {
      const view = this.view, clamp = (v, side) =>
        Math.min(side - side / view.zoom / 2, Math.max(side / view.zoom / 2, v));
      view.x = clamp(view.x, this.width);
      view.y = clamp(view.y, this.height);
    }

    move(columns, rows) {
      this.view.x += columns;
      this.view.y += rows;
      this.within();
      this.draw();
    }

    pick(row, column) {
      row = Math.min(this.height - 1, Math.max(0, row));
      column = Math.min(this.width - 1, Math.max(0, column));
      this.cursor = { row, column };
      this.draw();
      this.tell();
    }

    tell() {
      const { row, column } = this.cursor, i = this.offset + row * this.width + column;
      this.readout.dataset.row = row;
      this.readout.dataset.column = column;
      this.readout.textContent = this.kind === "image" ? this.ofPixel(i) : this.ofRay(i);
    }

    ofPixel(i) {
      const { row, column } = this.cursor, pixel = page.pixel_mm;
      const x = (column - (this.width - 1) / 2) * pixel, y = ((this.height - 1) / 2 - row) * pixel;
      const place = `x ${x.toFixed(2)} mm, y ${y.toFixed(2)} mm (row ${row}, column ${column})`;
      const value = arrays.image[i], std = arrays.std[i], digits = decimals(std);
      if (!Number.isFinite(value)) return `${place}: no result`;
      let text = `${place}: ${value.toFixed(digits)} ± ${std.toFixed(digits)} 1/mm, 95 %: ` +
        `${derived.lower(i).toFixed(digits)} to ${derived.upper(i).toFixed(digits)} 1/mm`;
      if (arrays.recalibrated)
        text += `; recalibrated ± ${arrays.recalibrated[i].toFixed(digits)} 1/mm`;
      if (arrays.truth)
        text += `; reference ${arrays.truth[i].toFixed(digits)} 1/mm, ` +
          `off by ${derived.ratio(i).toFixed(1)} std`;
      return text;
    }

    ofRay(i) {
      const { row, column } = this.cursor, value = arrays.signed_residual[i];
      const place = `view ${row} (${short(page.angles_deg[row])}°), detector ${column}`;
      if (!Number.isFinite(value)) return `${place}: not used`;
      return `${place}: |residual| ${short(Math.abs(value))}, ` +
        `${derived.residual(i).toFixed(1)} times the std of its noise`;
    }

    draw() { for (const panel of this.panels) panel.draw(); }
  }

  class Panel {
    constructor(viewer, element) {
      this.viewer = viewer;
      this.value = valueOf(element.dataset.map);
      this.window = viewer.windows[element.dataset.window];
      this.colours = colours[element.dataset.colours];
      this.canvas = element.querySelector("canvas.picture");
      this.bar = element.querySelector("canvas.bar");
      this.ends = [...element.querySelectorAll(".ends span")];
      this.unit = element.dataset.unit;
      this.steps = Number(element.dataset.steps || 0);
      this.pixels = document.createElement("canvas");
      this.pixels.width = viewer.width;
      this.pixels.height = viewer.height;
      this.painted = "";
      this.drag = null;
      this.bind();
    }

    bind() {
      const canvas = this.canvas, viewer = this.viewer;
      canvas.addEventListener("pointermove", (event) => {
        if (this.drag) {
          const at = this.place(event);
          if (viewer.view.zoom > 1) viewer.move(this.drag.x - at.x, this.drag.y - at.y);
          return;
        }
        const at = this.place(event);
        viewer.pick(Math.floor(at.y), Math.floor(at.x));
      });
      canvas.addEventListener("pointerdown", (event) => {
        const at = this.place(event);
        viewer.pick(Math.floor(at.y), Math.floor(at.x));
        this.drag = at;
        canvas.setPointerCapture(event.pointerId);
      });
      for (const name of ["pointerup", "pointercancel"])
        canvas.addEventListener(name, () => { this.drag = null; });
      canvas.addEventListener("dblclick", (event) => viewer.zoom(2, this.place(event)));
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; /* the wheel alone scrolls the page */
        event.preventDefault();
        viewer.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.place(event));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const { row, column } = this.viewer.cursor;
      const keys = {
        ArrowUp: () => this.viewer.pick(row - 1, column),
        ArrowDown: () => this.viewer.pick(row + 1, column),
        ArrowLeft: () => this.viewer.pick(row, column - 1),
        ArrowRight: () => this.viewer.pick(row, column + 1),
        "+": () => this.viewer.zoom(2, { x: column + 0.5, y: row + 0.5 }),
        "-": () => this.viewer.zoom(0.5, { x: column + 0.5, y: row + 0.5 }),
        0: () => this.viewer.whole(),
      };
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    }

    /* The corner of what is visible and its size, in pixels of the image. */
    visible() {
      const { x, y, zoom } = this.viewer.view;
      const wide = this.viewer.width / zoom, high = this.viewer.height / zoom;
      return { left: x - wide / 2, top: y - high / 2, wide, high };
    }

    place(event) {
      const box = this.canvas.getBoundingClientRect(), seen = this.visible();
      return {
        x: seen.left + (event.clientX - box.left) / box.width * seen.wide,
        y: seen.top + (event.clientY - box.top) / box.height * seen.high,
      };
    }

    colour(share) {
      if (this.steps) share = Math.min(this.steps - 1, Math.floor(share * this.steps)) / (this.steps - 1);
      return 3 * Math.max(0, Math.min(255, Math.round(255 * share)));
    }

    paint() {
      const { low, high } = this.window, state = `${low} ${high}`;
      if (this.painted === state) return;
      this.painted = state;
      const { width, height, offset } = this.viewer, context = this.pixels.getContext("2d");
      const shown = context.createImageData(width, height);
      let least = Infinity, most = -Infinity;
      for (let i = 0; i < width * height; i++) {
        const value = this.value(offset + i);
        if (!Number.isFinite(value)) continue; /* stays transparent */
        least = Math.min(least, value);
        most = Math.max(most, value);
        const at = this.colour((value - low) / (high - low));
        shown.data[4 * i] = this.colours[at];
        shown.data[4 * i + 1] = this.colours[at + 1];
        shown.data[4 * i + 2] = this.colours[at + 2];
        shown.data[4 * i + 3] = 255;
      }
      context.putImageData(shown, 0, 0);
      this.paintBar(least < low, most > high);
    }

    paintBar(below, above) {
      const context = this.bar.getContext("2d"), width = this.bar.width = 256;
      this.bar.height = 1;
      const line = context.createImageData(width, 1);
      for (let i = 0; i < width; i++) {
        const at = this.colour((i + 0.5) / width);
        for (let k = 0; k < 3; k++) line.data[4 * i + k] = this.colours[at + k];
        line.data[4 * i + 3] = 255;
      }
      context.putImageData(line, 0, 0);
      const { low, high } = this.window;
      this.ends[0].textContent = (below ? "≤ " : "") + short(low);
      this.ends[1].textContent = this.unit;
      this.ends[2].textContent = (above ? "≥ " : "") + short(high);
    }

    draw() {
      const canvas = this.canvas, box = canvas.getBoundingClientRect();
      if (!box.width) return;
      const dots = window.devicePixelRatio || 1;
      const width = Math.round(box.width * dots), height = Math.round(box.height * dots);
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
      }
      this.paint();
      const context = canvas.getContext("2d"), seen = this.visible();
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, width, height);
      const across = width / seen.wide, down = height / seen.high;
      context.drawImage(
        this.pixels, -seen.left * across, -seen.top * down,
        this.viewer.width * across, this.viewer.height * down,
      );
      this.drawCursor(context, across, down, seen, dots);
      if (this.viewer.kind === "image") this.drawScale(context, across, width, height, dots);
    }

    drawCursor(context, across, down, seen, dots) {
      const { row, column } = this.viewer.cursor || {};
      if (row === undefined) return;
      const x = (column + 0.5 - seen.left) * across, y = (row + 0.5 - seen.top) * down;
      const gap = Math.max(6 * dots, 0.6 * across), length = gap + 10 * dots;
      for (const [ink, thick] of [["#000", 3], ["#fff", 1.2]]) {
        context.strokeStyle = ink;
        context.lineWidth = thick * dots;
        context.beginPath();
        for (const [h, v] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(x + h * gap, y + v * gap);
          context.lineTo(x + h * length, y + v * length);
        }
        context.stroke();
      }
    }

    /* A bar of a round length, about a quarter of the picture. */
    drawScale(context, across, width, height, dots) {
      const quarter = width / 4 / across * page.pixel_mm;
      const power = 10 ** Math.floor(Math.log10(quarter));
      const length = [5, 2, 1].find((n) => n * power <= quarter) * power;
      const end = 10 * dots + length / page.pixel_mm * across, base = height - 10 * dots;
      context.font = `${12 * dots}px sans-serif`;
      const text = `${short(length)} mm`;
      for (const [ink, thick] of [["#000", 4], ["#fff", 1.6]]) {
        context.strokeStyle = ink;
        context.lineWidth = thick * dots;
        context.beginPath();
        context.moveTo(10 * dots, base);
        context.lineTo(end, base);
        context.stroke();
      }
      context.lineWidth = 3 * dots;
      context.strokeStyle = "#000";
      context.strokeText(text, 10 * dots, base - 6 * dots);
      context.fillStyle = "#fff";
      context.fillText(text, 10 * dots, base - 6 * dots);
    }
  }

  const viewers = page.viewers.map(
    (settings) => new Viewer(document.getElementById(settings.id), settings),
  );
  const redraw = () => viewers.forEach((viewer) => viewer.draw());
  window.addEventListener("resize", redraw);
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", redraw);
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
    redraw();
  });
})();
