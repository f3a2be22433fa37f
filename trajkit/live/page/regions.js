"use strict";
// What is packed in a document: label maps as run lengths, effects as int16; and the shapes of regions.
const regions = (() => {
  const DOWN = ["top", "middle", "bottom"], ACROSS = ["left", "centre", "right"];

  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return new DataView(out.buffer);
  }

  function nats(packed, steps, k) { // → one Float32Array of nats per step
    const raw = bytes(packed.values);
    return Array.from({ length: steps }, (_, t) =>
      Float32Array.from({ length: k }, (_, r) => raw.getInt16(2 * (t * k + r), true) * packed.unit));
  }

  class Regions {
    constructor(map) { // {width, height, runs}
      const pairs = bytes(map.runs);
      this.width = map.width;
      this.height = map.height;
      this.cells = new Uint16Array(map.width * map.height);
      for (let i = 0, at = 0; i < pairs.byteLength; i += 4) {
        const count = pairs.getUint16(i + 2, true);
        this.cells.fill(pairs.getUint16(i, true), at, at + count);
        at += count;
      }
      this.outlines = new Map();
      this.measure();
    }

    measure() { // the box and the middle of each region
      this.boxes = new Map();
      for (let y = 0, i = 0; y < this.height; y++) for (let x = 0; x < this.width; x++, i++) {
        const k = this.cells[i];
        let box = this.boxes.get(k);
        if (!box) this.boxes.set(k, box = { left: x, right: x + 1, top: y, bottom: y + 1, n: 0, x: 0, y: 0 });
        if (x < box.left) box.left = x;
        if (x >= box.right) box.right = x + 1;
        box.bottom = y + 1;
        box.n += 1; box.x += x + 0.5; box.y += y + 0.5;
      }
    }

    has(k) { return this.boxes.has(k); }

    at(x, y) { // the region at a place, both from 0 to 1
      const column = Math.min(this.width - 1, Math.floor(x * this.width)), row = Math.min(this.height - 1, Math.floor(y * this.height));
      return this.cells[row * this.width + column];
    }

    place(k) { // in words, by its middle
      const box = this.boxes.get(k);
      if (!box) return "";
      const third = (share) => Math.min(2, Math.floor(3 * share));
      const down = DOWN[third(box.y / box.n / this.height)], across = ACROSS[third(box.x / box.n / this.width)];
      return down === "middle" && across === "centre" ? "centre" : `${down} ${across}`;
    }

    outline(k, sx, sy) { // a Path2D of closed lines around it, a pixel of the map being sx × sy
      const key = `${k} ${sx} ${sy}`;
      if (!this.outlines.has(key)) this.outlines.set(key, drawn(loops(this, k), sx, sy));
      return this.outlines.get(key);
    }
  }

  function starts(map, k) { // directed edges with the region on their right: first corner → next corners
    const { cells, width, height } = map, box = map.boxes.get(k), edges = new Map();
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && cells[y * width + x] === k;
    const add = (x, y, x2, y2) => {
      const from = y * (width + 1) + x, to = y2 * (width + 1) + x2;
      if (edges.has(from)) edges.get(from).push(to); else edges.set(from, [to]);
    };
    for (let y = box.top; y < box.bottom; y++) for (let x = box.left; x < box.right; x++) {
      if (!inside(x, y)) continue;
      if (!inside(x, y - 1)) add(x, y, x + 1, y);
      if (!inside(x + 1, y)) add(x + 1, y, x + 1, y + 1);
      if (!inside(x, y + 1)) add(x + 1, y + 1, x, y + 1);
      if (!inside(x - 1, y)) add(x, y + 1, x, y);
    }
    return edges;
  }

  function loops(map, k) { // → lists of corners [x, y], each closed
    const edges = starts(map, k), wide = map.width + 1, out = [];
    for (const first of edges.keys()) {
      while (edges.get(first).length) {
        const corners = [];
        let at = first;
        do {
          corners.push([at % wide, Math.floor(at / wide)]);
          at = edges.get(at).pop();
        } while (at !== first);
        out.push(corners.filter(([x, y], i) => { // those alone where it turns
          const [px, py] = corners.at(i - 1), [nx, ny] = corners[(i + 1) % corners.length];
          return (px - x) * (ny - y) !== (py - y) * (nx - x);
        }));
      }
    }
    return out;
  }

  function drawn(lines, sx, sy) {
    const path = new Path2D();
    for (const corners of lines) {
      corners.forEach(([x, y], i) => (i ? path.lineTo(x * sx, y * sy) : path.moveTo(x * sx, y * sy)));
      path.closePath();
    }
    return path;
  }

  return { Regions, nats };
})();
