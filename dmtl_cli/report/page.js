// Draws every figure of the page from the specification beside it. `ast`: expressions are interpreted, not compiled.
const config = JSON.parse(document.getElementById("chart-config").textContent);
for (const figure of document.querySelectorAll("figure")) {
  const plot = figure.querySelector(".plot");
  const spec = JSON.parse(figure.querySelector("script").textContent);
  vegaEmbed(plot, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config }).catch((error) => {
    figure.classList.add("off");
    console.error(`${figure.id}: ${error}`);
  });
}
