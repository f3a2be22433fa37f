// The page: a run, a sentence of it, and everything that follows from the two. Model text only ever becomes text nodes.
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const find = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false };
  const nats = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + (Math.abs(value) >= 0.0995 ? Math.abs(value).toFixed(2) : value && Math.abs(value).toPrecision(2));
  const state = { run: 0, step: 0, held: null, region: null, timer: null, drawn: null };
  const cache = new Map();
  const images = payload.images.map(() => null);

  const run = () => payload.runs[state.run];

  function unpacked(index) { // a run's label map and effects, decoded once
    if (!cache.has(index)) {
      const one = payload.runs[index], map = one.map === null ? null : payload.maps[one.map];
      cache.set(index, {
        map,
        cells: map && picture.labels(map),
        effects: one.effects && picture.effects(one.effects, one.steps.length, one.regions),
      });
    }
    return cache.get(index);
  }

  async function image(index) {
    if (index === null) return null;
    if (!images[index]) {
      const { url, width, height } = payload.images[index], element = new Image();
      element.src = url;
      images[index] = element.decode().then(() => ({ element, width, height }), () => null);
    }
    return images[index];
  }

  // ---- one run -------------------------------------------------------------------------------------------------
  function fillChooser() {
    const groups = new Map();
    payload.runs.forEach((one, i) => {
      if (!groups.has(one.outcome)) {
        const group = make("optgroup");
        group.label = one.outcomeName;
        groups.set(one.outcome, group);
        find("run").append(group);
      }
      const thinking = one.steps.filter((step) => step.kind === "thinking").length;
      const option = make("option", "", [one.task, one.question.length > 46 ? one.question.slice(0, 45) + "…" : one.question, `${thinking} step${thinking === 1 ? "" : "s"}`, one.id].filter(Boolean).join(" · "));
      option.value = i;
      groups.get(one.outcome).append(option);
    });
  }

  async function choose(index) {
    stop();
    Object.assign(state, { run: index, step: 0, held: null, region: null });
    const one = run();
    find("run").value = index;
    find("count").textContent = `${index + 1} of ${payload.runs.length}`;
    find("question").textContent = one.question || "(none)";
    const answer = one.steps.filter((step) => step.kind === "answer").map((step) => step.text).join(" ");
    find("answer").textContent = (one.answer || answer || "(none)") + (one.target ? `   (expected: ${one.target})` : "");
    const badge = make("span", "tag badge", one.outcomeName);
    badge.style.cssText = `color:#fff;background:${one.colour};border-color:${one.colour}`;
    const facts = [one.task, one.group && `group ${one.group}`, `${one.regions} regions`, one.effectsKind && `${one.effectsKind} effects`];
    if (one.seen !== null) facts.push(one.seen ? "seen by the detectors: its risk flatters" : "held out from the detectors");
    find("badges").replaceChildren(badge, ...facts.filter(Boolean).map((fact) => make("span", "tag", fact)));
    find("notes").hidden = !one.notes.length;
    find("notes").textContent = one.notes.join(" ");
    find("reading").hidden = !one.reading;
    find("reading").textContent = one.reading;
    find("legend").hidden = !one.effects || one.map === null;
    listSentences(one);
    state.picture = await image(one.image);
    if (run() !== one) return;
    show(0);
    drawRunFigures();
  }

  function meter(value, kind, short, over) {
    const box = make("span", `meter ${kind}${over ? " over" : ""}`);
    box.dataset.short = short;
    box.title = value === null ? `${short} not defined` : `${short} ${value.toFixed(3)}`;
    if (value === null) { box.textContent = kind === "risk" ? "" : "–"; box.dataset.short = ""; return box; }
    const track = make("i"), fill = make("b");
    fill.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
    track.append(fill);
    box.append(track, value.toFixed(2));
    return box;
  }

  function listSentences(one) {
    let alarmed = false, number = 0;
    const withRisk = find("sentences").classList.contains("with-risk");
    find("sentences").replaceChildren(...one.steps.map((step, i) => {
      const item = make("li"), button = make("button"), said = make("span", "said", step.text);
      button.type = "button";
      button.tabIndex = i ? -1 : 0;
      if (step.kind === "thinking") number += 1;
      alarmed = alarmed || step.alarm;
      if (step.kind !== "thinking") said.append(make("span", "tag", step.kind));
      if (step.wrong) said.append(make("span", "tag wrong", "first wrong, by the labels"));
      if (step.alarm) said.append(make("span", "tag alarm", "alarm"));
      button.append(make("span", "number", step.kind === "thinking" ? String(number) : ""), said, meter(step.conc, "conc", "conc.", false));
      if (withRisk) button.append(meter(step.risk, "risk", "risk", alarmed));
      button.addEventListener("pointermove", (event) => { // not pointerenter: a list that moves under a resting pointer fires that too
        if (event.pointerType !== "touch" && !state.timer && state.step !== i) show(i);
      });
      button.addEventListener("focus", () => { if (!state.timer) show(i); });
      button.addEventListener("click", () => { stop(); hold(state.held === i ? null : i); show(i); });
      item.append(button);
      return item;
    }));
    find("sentences").scrollTop = 0;
  }

  const buttons = () => find("sentences").querySelectorAll("button");

  function hold(index) {
    state.held = index;
    buttons().forEach((button, i) => button.classList.toggle("held", i === index));
  }

  function show(index) { // the sentence that everything else follows
    if (!run().steps.length) return drawCanvas();
    state.step = Math.max(0, Math.min(index, run().steps.length - 1));
    buttons().forEach((button, i) => {
      button.tabIndex = i === state.step ? 0 : -1;
      if (i === state.step) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    });
    drawCanvas();
    scheduleCursor();
  }

  function drawCanvas() {
    const one = run(), { map, cells, effects } = unpacked(state.run);
    const values = effects ? effects[state.step] : null;
    const own = values && Math.max(...values.map(Math.abs));
    const full = (find("own").checked && own) || one.scale;
    picture.draw(find("canvas"), { image: state.picture, map, cells, values, full, outlines: find("outlines").checked, region: state.region });
    find("low").textContent = "≤ " + nats(-full);
    find("high").textContent = "≥ " + nats(full);
    const text = one.steps.length ? one.steps[state.step].text : "";
    find("canvas").setAttribute("aria-label", `Image with the effects of: ${text}`);
  }

  function inspect(event) { // the region under the pointer, in nats
    const { map, cells, effects } = unpacked(state.run);
    if (!map || !effects || !effects.length) return;
    const canvas = find("canvas"), box = canvas.getBoundingClientRect();
    const fit = Math.min(box.width / canvas.width, box.height / canvas.height); // object-fit: contain
    const x = (event.clientX - box.left - (box.width - canvas.width * fit) / 2) / (canvas.width * fit);
    const y = (event.clientY - box.top - (box.height - canvas.height * fit) / 2) / (canvas.height * fit);
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return leave();
    const region = cells[Math.floor(y * map.height) * map.width + Math.floor(x * map.width)];
    if (region !== state.region) { state.region = region; drawCanvas(); }
    const tip = find("tip"), value = effects[state.step][region];
    tip.hidden = false;
    tip.textContent = value === undefined ? `region ${region}: no effect` : `region ${region}: ${nats(value)} nats`;
    tip.style.left = `${Math.max(0, Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(0, event.clientY - box.top - 30)}px`;
  }

  function leave() {
    find("tip").hidden = true;
    if (state.region !== null) { state.region = null; drawCanvas(); }
  }

  // ---- playing -------------------------------------------------------------------------------------------------
  function stop() {
    clearInterval(state.timer);
    state.timer = null;
    find("play").textContent = "▶ Play";
    find("play").setAttribute("aria-pressed", "false");
  }

  function play() {
    if (state.timer) return stop();
    hold(null);
    const last = run().steps.length - 1;
    reveal(state.step >= last ? 0 : state.step);
    state.timer = setInterval(() => (state.step >= last ? stop() : reveal(state.step + 1)), 850);
    find("play").textContent = "❚❚ Pause";
    find("play").setAttribute("aria-pressed", "true");
  }

  function reveal(index) { // show, and scroll the list (not the page) to it
    show(index);
    const list = find("sentences"), button = buttons()[state.step];
    if (!button) return;
    const top = button.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + button.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
  }

  // ---- figures -------------------------------------------------------------------------------------------------
  const near = (element) => element.getBoundingClientRect().top < innerHeight + 400 && element.getBoundingClientRect().bottom > -400;
  const thinkingIndex = (step) => run().steps.slice(0, step).filter((one) => one.kind === "thinking").length;
  const sentenceOf = (thinking) => {
    let seen = -1;
    return run().steps.findIndex((step) => step.kind === "thinking" && ++seen === thinking);
  };

  function tall(element, layout) { // keeps the height of its figure when the window changes, or it is printed
    element.style.height = `${layout.height}px`;
    return element;
  }

  async function drawRunFigures(wanted = false) {
    const one = run();
    if (state.drawn === one || !(wanted || near(find("path")) || near(find("metrics")))) return;
    state.drawn = one;
    find("no-path").hidden = one.path !== null;
    find("path-note").textContent = one.pathNote || "";
    for (const [id, figure] of [["path", one.path], ["metrics", one.metrics]]) {
      find(id).hidden = figure === null;
      if (figure === null) continue;
      const layout = structuredClone(figure.layout);
      if (id === "path") layout.height = Math.min(layout.height, find(id).clientWidth); // or a phone cuts off its axes
      await Plotly.react(tall(find(id), layout), structuredClone(figure.data), layout, CONFIG);
      if (find(id).dataset.bound) continue;
      find(id).dataset.bound = "yes";
      for (const kind of ["plotly_hover", "plotly_click"]) find(id).on(kind, (event) => {
        const at = event.points[0].customdata;
        if (typeof at === "number" && sentenceOf(at) >= 0 && !state.timer) reveal(sentenceOf(at));
      });
      find(id).on("plotly_unhover", settle);
    }
    scheduleCursor();
  }

  let waiting = null;
  function scheduleCursor() { // the marker in both figures follows a moment later, once
    clearTimeout(waiting);
    waiting = setTimeout(moveCursor, 60);
  }

  function moveCursor() {
    const one = run();
    if (state.drawn !== one || !one.path) return;
    const at = thinkingIndex(state.step), thinking = one.steps[state.step].kind === "thinking";
    const line = { type: "line", xref: "x", yref: "paper", x0: at + 1, x1: at + 1, y0: 0, y1: 1, line: { color: "rgba(31,41,51,.35)", width: 1.5 } };
    Plotly.relayout(find("metrics"), { shapes: thinking ? [line] : [] });
    const data = find("path").data, last = data.length - 1, xyz = ["x", "y", "z"];
    const point = (name) => { const array = data[0][name]; return [thinking ? [(array._inputArray || array)[at]] : []]; };
    Plotly.restyle(find("path"), Object.fromEntries(xyz.map((name) => [name, point(name)])), [last]);
  }

  function settle() { if (state.held !== null && !state.timer) show(state.held); }

  function watchFigures() {
    const draw = (element) => {
      const figure = payload.figures[element.dataset.figure];
      Plotly.newPlot(tall(element, figure.layout), figure.data, figure.layout, CONFIG);
    };
    const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      if (entry.target.dataset.figure) { seen.unobserve(entry.target); draw(entry.target); } else drawRunFigures();
    }), { rootMargin: "400px" });
    document.querySelectorAll("[data-figure]").forEach((element) => seen.observe(element));
    seen.observe(find("path"));
    addEventListener("beforeprint", () => {
      document.querySelectorAll("[data-figure]:empty").forEach(draw);
      drawRunFigures(true);
    });
  }

  // ---- start ---------------------------------------------------------------------------------------------------
  const turn = (by) => choose((state.run + by + payload.runs.length) % payload.runs.length);
  fillChooser();
  picture.legend(find("scale"));
  find("run").addEventListener("change", (event) => choose(Number(event.target.value)));
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  find("play").addEventListener("click", play);
  find("outlines").addEventListener("change", drawCanvas);
  find("own").addEventListener("change", drawCanvas);
  find("canvas").addEventListener("pointermove", inspect);
  find("canvas").addEventListener("pointerdown", inspect);
  find("canvas").addEventListener("pointerleave", leave);
  find("sentences").addEventListener("pointerleave", settle);
  find("sentences").addEventListener("keydown", (event) => {
    const to = { ArrowDown: state.step + 1, ArrowUp: state.step - 1, Home: 0, End: run().steps.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    stop();
    buttons()[Math.max(0, Math.min(to, run().steps.length - 1))].focus();
  });
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("select, .scroll, .figure, nav")) return; // these have their own use for the key
    event.preventDefault();
    const inList = find("sentences").contains(document.activeElement);
    turn(by);
    if (inList && buttons().length) buttons()[0].focus();
  });
  watchFigures();
  choose(0);
})();
