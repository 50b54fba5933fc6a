"""Draws the requests per second of each document as an SVG file."""

import math

PANEL_WIDTH, PANEL_HEIGHT, GAP, LEFT, TOP, BOTTOM = 150, 150, 34, 46, 58, 40
SYSTEMS = {"Palisade": "palisade", "PostGraphile": "peer", "floor": "floor"}
LABELS = {"floor": "floor: PostgreSQL alone"}
STYLE = """
    text { font: 11px system-ui, sans-serif; fill: #333 }
    .title { font-weight: 600; font-size: 13px }
    .axis { stroke: #999; fill: none } .grid { stroke: #ddd }
    polyline { fill: none; stroke-width: 2 }
    .palisade { stroke: #0969da; fill: #0969da } .peer { stroke: #bc4c00; fill: #bc4c00 }
    .floor { stroke: #777; fill: #777 } polyline.floor { stroke-dasharray: 4 3 }
    polyline.palisade, polyline.peer, polyline.floor { fill: none }
    @media (prefers-color-scheme: dark) {
      text { fill: #ccc } .axis { stroke: #777 } .grid { stroke: #333 }
      .palisade { stroke: #58a6ff; fill: #58a6ff } .peer { stroke: #f0883e; fill: #f0883e }
    }
"""


def draw(results, caption):
    """Returns the SVG. Each document has a panel that plots requests per second against connections."""
    width = LEFT + len(results) * (PANEL_WIDTH + GAP)
    height = TOP + PANEL_HEIGHT + BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" role="img" aria-label="Requests per second">',
             f"<style>{STYLE}</style>", f'<text x="{LEFT - 36}" y="16">{caption}</text>']
    x = LEFT - 36
    for name, style in SYSTEMS.items():
        label = LABELS.get(name, name)
        parts.append(f'<circle class="{style}" cx="{x + 4}" cy="30" r="4"/><text x="{x + 12}" y="34">{label}</text>')
        x += 24 + 7 * len(label)
    for number, (document, cells) in enumerate(results.items()):
        parts += panel(document, cells, LEFT + number * (PANEL_WIDTH + GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(document, cells, left):
    top, bottom = TOP, TOP + PANEL_HEIGHT
    highest = scale(max(measurement.rate for cell in cells.values() for measurement in cell.values()))
    columns = {connections: left + 12 + index * (PANEL_WIDTH - 24) / max(1, len(cells) - 1)
               for index, connections in enumerate(cells)}
    parts = [f'<text class="title" x="{left}" y="{top - 8}">{document.upper()}</text>']
    for step in range(0, 5):
        y = bottom - PANEL_HEIGHT * step / 4
        parts += [f'<line class="grid" x1="{left}" y1="{y}" x2="{left + PANEL_WIDTH}" y2="{y}"/>',
                  f'<text x="{left - 4}" y="{y + 4}" text-anchor="end">{short(highest * step / 4)}</text>']
    parts.append(f'<path class="axis" d="M{left} {top}V{bottom}H{left + PANEL_WIDTH}"/>')
    for connections, x in columns.items():
        parts.append(f'<text x="{x:.0f}" y="{bottom + 15}" text-anchor="middle">{connections}</text>')
    parts.append(f'<text x="{left + PANEL_WIDTH / 2}" y="{bottom + 31}" text-anchor="middle">connections</text>')
    for name, style in SYSTEMS.items():
        points = [(columns[connections], bottom - PANEL_HEIGHT * cell[name].rate / highest)
                  for connections, cell in cells.items() if name in cell]
        if points:
            parts.append(f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        parts += [f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
    return parts


def scale(highest):
    """Returns the upper end of an axis: a round number, at least `highest`, that is easy to divide by four."""
    unit = 10 ** math.floor(math.log10(highest))
    return next(unit * factor for factor in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if unit * factor >= highest)


def short(number):
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"
