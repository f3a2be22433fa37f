"use strict";
// The sections of a report: figures drawn when they come into view, and links that leave the page's own address alone.
(() => {
  const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false };
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const all = document.querySelectorAll("[data-figure]");

  function draw(element) {
    const figure = figures[element.dataset.figure];
    element.style.height = `${figure.layout.height}px`; // kept when the window changes, or it is printed
    Plotly.newPlot(element, figure.data, figure.layout, CONFIG);
  }

  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    seen.unobserve(entry.target);
    draw(entry.target);
  }), { rootMargin: "400px" });
  all.forEach((element) => seen.observe(element));
  addEventListener("beforeprint", () => all.forEach((element) => { if (!element.hasChildNodes()) draw(element); }));

  document.querySelectorAll("a[data-section]").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault(); // what stands after # is the run and the step that are shown
    document.getElementById(link.dataset.section).scrollIntoView();
  }));
})();
