// Draws the figures of the page, and draws them anew in other colours when the system changes between light and dark.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function axis(given) {
    const title = given.title ? { text: given.title, standoff: 8, font: { size: 13, color: colour("--muted") } } : undefined;
    return Object.assign(
      { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true, fixedrange: true },
      given,
      { title },
    );
  }

  function draw(figure) {
    const element = document.getElementById(figure.id);
    const layout = Object.assign(
      {
        font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--text") },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 8, r: 8, t: 8, b: 8 },
        hovermode: "closest",
        hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } },
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", traceorder: "normal" },
        showlegend: true,
      },
      figure.layout,
      { xaxis: axis(figure.layout.xaxis || {}), yaxis: axis(figure.layout.yaxis || {}) },
    );
    return Plotly.react(element, figure.data, layout, { displayModeBar: false, responsive: true });
  }

  function drawAll() {
    return Promise.all(figures.map(draw)).then(() => {
      document.documentElement.dataset.drawn = String(figures.length);
    });
  }

  drawAll();
  dark.addEventListener("change", drawAll);
})();
