"use strict";
// The trajectory: effect vectors of thinking steps by principal components, turned in three dimensions on a canvas.
const path = (() => {
  const TOP = 32, START = { yaw: -0.65, pitch: 0.42 };

  function eigen(matrix) { // symmetric, by Jacobi rotations → [{value, vector}], the largest first
    const n = matrix.length, a = matrix.map((row) => Float64Array.from(row));
    const v = Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (__, j) => Number(i === j)));
    const trace = a.reduce((sum, row, i) => sum + Math.abs(row[i]), 0);
    for (let sweep = 0; sweep < 60; sweep++) {
      let off = 0;
      for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += Math.abs(a[p][q]);
      if (off <= 1e-14 * trace) break;
      for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) if (a[p][q]) rotate(a, v, p, q);
    }
    return a.map((row, i) => ({ value: row[i], vector: v.map((one) => one[i]) })).sort((x, y) => y.value - x.value);
  }

  function rotate(a, v, p, q) { // makes a[p][q] zero
    const n = a.length, theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1)), c = 1 / Math.hypot(t, 1), s = t * c;
    for (let i = 0; i < n; i++) [a[i][p], a[i][q]] = [c * a[i][p] - s * a[i][q], s * a[i][p] + c * a[i][q]];
    for (let i = 0; i < n; i++) [a[p][i], a[q][i]] = [c * a[p][i] - s * a[q][i], s * a[p][i] + c * a[q][i]];
    for (let i = 0; i < n; i++) [v[i][p], v[i][q]] = [c * v[i][p] - s * v[i][q], s * v[i][p] + c * v[i][q]];
  }

  // rows: T arrays of K nats. → {points: T × 3 nats, share: of the variance of all K regions along each axis}
  function components(rows) {
    const t = rows.length, k = t ? rows[0].length : 0;
    if (!k) return { points: [], share: [0, 0, 0] };
    const mean = new Float64Array(k), size = new Float64Array(k);
    for (const row of rows) for (let r = 0; r < k; r++) { mean[r] += row[r] / t; size[r] += Math.abs(row[r]); }
    const kept = Array.from(size.keys()).sort((a, b) => size[b] - size[a] || a - b).slice(0, TOP).sort((a, b) => a - b);
    let total = 0;
    for (const row of rows) for (let r = 0; r < k; r++) total += (row[r] - mean[r]) ** 2;
    const centred = rows.map((row) => kept.map((r) => row[r] - mean[r]));
    const covariance = kept.map((_, i) => kept.map((__, j) => centred.reduce((sum, row) => sum + row[i] * row[j], 0)));
    const axes = eigen(covariance).slice(0, 3).filter((axis) => axis.value > 1e-12 * total).map(({ value, vector }) => {
      const strongest = vector.reduce((best, one) => (Math.abs(one) > Math.abs(best) ? one : best), 0);
      return { value, vector: strongest < 0 ? vector.map((one) => -one) : vector }; // its largest loading positive
    });
    const along = (row, axis) => (axis ? axis.vector.reduce((sum, one, i) => sum + one * row[i], 0) : 0);
    return {
      points: centred.map((row) => [0, 1, 2].map((i) => along(row, axes[i]))),
      share: [0, 1, 2].map((i) => (axes[i] && total ? axes[i].value / total : 0)),
    };
  }

  function likeBefore(points, before) { // each axis turned so that the steps seen before lie on the same side of it
    const flip = [0, 1, 2].map((i) => (before.reduce((sum, point, t) => sum + (points[t] ? point[i] * points[t][i] : 0), 0) < 0 ? -1 : 1));
    return points.map((point) => point.map((one, i) => one * flip[i]));
  }

  class View {
    // pick(i): a point was chosen. about(i): what is said of a point
    constructor(pick, about) {
      Object.assign(this, { pick, about, ...START, points: [], share: [], marks: [], names: [], attempts: [], current: -1, over: -1, colours: new Map() });
      this.canvas = dom.make("canvas", { tabindex: 0, role: "img", class: "turn" });
      this.tip = dom.make("div", { class: "hint", hidden: true });
      this.element = dom.make("div", { class: "stage3" }, this.canvas, this.tip);
      this.listen();
    }

    listen() {
      const on = (name, act) => this.canvas.addEventListener(name, act);
      on("pointerdown", (event) => {
        this.held = { x: event.clientX, y: event.clientY, moved: false };
        this.canvas.setPointerCapture(event.pointerId);
      });
      on("pointermove", (event) => (this.held ? this.drag(event) : this.point(event)));
      on("pointerup", (event) => {
        const held = this.held;
        this.held = null;
        const at = held && !held.moved ? this.near(event) : -1;
        if (at >= 0) this.pick(at);
      });
      on("pointercancel", () => { this.held = null; });
      on("pointerleave", () => this.point(null));
      on("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    drag(event) {
      const dx = event.clientX - this.held.x, dy = event.clientY - this.held.y;
      if (!this.held.moved && Math.hypot(dx, dy) < 4) return;
      Object.assign(this.held, { x: event.clientX, y: event.clientY, moved: true });
      this.turn(dx * 0.01, dy * 0.01);
    }

    key(event) {
      const by = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (by) this.turn(...by);
      else if (event.key === "Home") { Object.assign(this, START); this.draw(); } else return;
      event.preventDefault();
      event.stopPropagation();
    }

    turn(yaw, pitch) {
      this.yaw += yaw;
      this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
      this.draw();
    }

    near(event) { // the point at most 14 pixels from the pointer, the nearest to it
      const box = this.canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      let best = -1, least = 14;
      (this.seen || []).forEach((point, i) => {
        const away = Math.hypot(point.x - x, point.y - y);
        if (away < least) [best, least] = [i, away];
      });
      return best;
    }

    point(event) {
      const at = event ? this.near(event) : -1;
      this.canvas.classList.toggle("over", at >= 0);
      if (at === this.over) return;
      this.over = at;
      this.tip.hidden = at < 0;
      if (at >= 0) {
        this.tip.textContent = this.about(at);
        const { x, y } = this.seen[at], wide = this.canvas.clientWidth;
        this.tip.style.left = `${Math.max(0, Math.min(x + 12, wide - this.tip.offsetWidth - 4))}px`;
        this.tip.style.top = `${y > 40 ? y - this.tip.offsetHeight - 10 : y + 12}px`;
      }
      this.draw();
    }

    // rows: effects of the thinking steps, those that were shown and more. marks: positions of alarms. names: of the
    // points. attempts: which attempt each is of; those of different ones are not joined
    set(rows, marks, names, attempts) {
      const { points, share } = components(rows);
      const next = likeBefore(points, this.points);
      Object.assign(this, { points: next, share, marks, names, attempts });
      this.draw();
    }

    clear() { Object.assign(this, { points: [], current: -1 }, START); }

    show(current) {
      this.current = current;
      this.draw();
    }

    frame() { // the box around the path, and a scale at which all of it is seen however it is turned
      const [low, high] = [Math.min, Math.max].map((of) => [0, 1, 2].map((i) => of(...this.points.map((point) => point[i]))));
      const middle = low.map((one, i) => (one + high[i]) / 2), half = low.map((one, i) => (high[i] - one) / 2);
      const radius = Math.hypot(...half) || 1, wide = this.canvas.clientWidth, tall = this.canvas.clientHeight;
      const room = Math.max(20, Math.min(wide, tall) / 2 - 26), away = 4 * radius;
      const zoom = (room * Math.sqrt(away ** 2 - radius ** 2)) / (radius * away); // of a sphere seen from `away`
      return { middle, half, away, zoom, wide, tall };
    }

    project(point, { middle, away, zoom, wide, tall }) { // axes 1, 2, 3 → right, into the page, up; then turned
      const [x, z, y] = point.map((one, i) => one - middle[i]);
      const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
      const across = cy * x + sy * z, into = -sy * x + cy * z;
      const up = cp * y + sp * into, depth = cp * into - sp * y;
      const near = (zoom * away) / (away + depth);
      return { x: wide / 2 + across * near, y: tall / 2 - up * near, depth: depth / (away / 4) };
    }

    draw() {
      const ratio = devicePixelRatio || 1, canvas = this.canvas, context = canvas.getContext("2d");
      const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
      if (!width || !height) return;
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      this.seen = [];
      if (!this.points.length) return;
      this.colours.clear(); // they change with the light
      const frame = this.frame();
      this.seen = this.points.map((point) => this.project(point, frame));
      this.drawBox(context, frame);
      this.drawFloor(context, frame);
      this.drawPath(context);
      this.drawPoints(context);
    }

    colour(name) { // asked for once a drawing, as there are many points
      if (!this.colours.has(name)) this.colours.set(name, dom.colour(name));
      return this.colours.get(name);
    }

    corner(frame, signs) { return this.project(frame.middle.map((one, i) => one + signs[i] * frame.half[i]), frame); }

    drawBox(context, frame) {
      context.strokeStyle = this.colour("rim");
      context.lineWidth = 1;
      context.setLineDash([]);
      const bits = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [n & 1 ? 1 : -1, n & 2 ? 1 : -1, n & 4 ? 1 : -1]);
      const corners = bits.map((signs) => this.corner(frame, signs));
      const back = corners.reduce((best, one, i) => (one.depth > corners[best].depth ? i : best), 0);
      for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) {
        if (i & bit || (frame.half[Math.log2(bit)] === 0)) continue;
        context.globalAlpha = i === back || (i | bit) === back || (i ^ bit) === back ? 0.9 : 0.45;
        line(context, corners[i], corners[i | bit]);
      }
      context.globalAlpha = 1;
      this.nameAxes(context, frame, corners);
    }

    nameAxes(context, frame, corners) { // each at the lowest edge along it
      context.font = `11px ${getComputedStyle(this.canvas).fontFamily}`;
      context.fillStyle = this.colour("muted");
      context.textAlign = "center";
      [1, 2, 4].forEach((bit, axis) => {
        if (this.share[axis] < 0.02) return;
        const edges = [0, 1, 2, 3, 4, 5, 6, 7].filter((i) => !(i & bit)).map((i) => [corners[i], corners[i | bit]]);
        const [a, b] = edges.reduce((best, one) => (outside(one, frame, axis) > outside(best, frame, axis) ? one : best));
        const x = (a.x + b.x) / 2, y = (a.y + b.y) / 2, away = Math.hypot(x - frame.wide / 2, y - frame.tall / 2) || 1;
        const text = `axis ${axis + 1}`, half = context.measureText(text).width / 2 + 2;
        const at = { x: x + (12 * (x - frame.wide / 2)) / away, y: y + (14 * (y - frame.tall / 2)) / away };
        context.fillText(text, Math.max(half, Math.min(frame.wide - half, at.x)), Math.max(11, Math.min(frame.tall - 4, at.y + 4)));
      });
    }

    drawFloor(context, frame) { // the shadow of the path
      if (!frame.half[2]) return;
      const low = frame.middle[2] - frame.half[2];
      context.strokeStyle = this.colour("shade");
      context.lineWidth = 1.5;
      const shadow = this.points.map(([x, y]) => this.project([x, y, low], frame));
      for (let i = 1; i < shadow.length; i++) if (this.joined(i)) line(context, shadow[i - 1], shadow[i]);
    }

    joined(i) { return this.attempts[i] === this.attempts[i - 1]; }

    tone(i) { // early steps pale, late ones full
      const share = this.points.length > 1 ? i / (this.points.length - 1) : 1;
      return 0.3 + 0.7 * share;
    }

    drawPath(context) {
      context.strokeStyle = this.colour("accent");
      context.lineCap = "round";
      const order = this.seen.slice(1).map((_, i) => i + 1).filter((i) => this.joined(i)).sort((a, b) => this.seen[b].depth - this.seen[a].depth);
      for (const i of order) {
        context.globalAlpha = this.tone(i);
        context.lineWidth = 2.6 - 0.7 * this.seen[i].depth;
        line(context, this.seen[i - 1], this.seen[i]);
      }
      context.globalAlpha = 1;
    }

    drawPoints(context) {
      const order = this.seen.map((_, i) => i).sort((a, b) => this.seen[b].depth - this.seen[a].depth);
      for (const i of order) this.drawPoint(context, i);
      const last = this.seen.length - 1;
      context.font = `600 12px ${getComputedStyle(this.canvas).fontFamily}`;
      context.textAlign = "center";
      for (const i of new Set([0, last, ...this.marks, this.current])) if (this.seen[i]) this.nameStep(context, i);
    }

    drawPoint(context, i) {
      const { x, y, depth } = this.seen[i], here = i === this.current, alarm = this.marks.includes(i);
      const size = (here ? 7.5 : 4.6) - depth * 0.9 + (i === this.over ? 1.5 : 0);
      disc(context, x, y, size + 1.6, this.colour("page"));
      context.globalAlpha = here || alarm ? 1 : this.tone(i);
      disc(context, x, y, size, this.colour(alarm ? "alarm" : "accent"));
      context.globalAlpha = 1;
      if (!here) return;
      context.strokeStyle = this.colour("ink");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, size + 3.2, 0, 2 * Math.PI);
      context.stroke();
    }

    nameStep(context, i) { // its number, with a rim that keeps it readable over lines
      const { x, y } = this.seen[i], text = (this.marks.includes(i) ? "▲ " : "") + this.names[i];
      context.lineWidth = 4;
      context.lineJoin = "round";
      context.strokeStyle = this.colour("page");
      context.strokeText(text, x, y - 14);
      context.fillStyle = this.colour(this.marks.includes(i) ? "wrong" : "ink");
      context.fillText(text, x, y - 14);
    }
  }

  function outside([a, b], frame, axis) { // how far an edge is from the middle: down for the flat axes, to the side for the upright one
    return axis === 2 ? Math.abs((a.x + b.x) / 2 - frame.wide / 2) + (a.x < frame.wide / 2 ? 1 : 0) : (a.y + b.y) / 2;
  }

  function line(context, a, b) {
    context.beginPath();
    context.moveTo(a.x, a.y);
    context.lineTo(b.x, b.y);
    context.stroke();
  }

  function disc(context, x, y, radius, colour) {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, Math.max(1, radius), 0, 2 * Math.PI);
    context.fill();
  }

  return { View, components };
})();
