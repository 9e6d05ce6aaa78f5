"""How many invoices a second WeasyPrint makes of plain HTML, one core: what scripts/bench puts beside billday's own."""

import statistics
import time

from weasyprint import HTML

ROW = "<tr><td>{n}</td><td>ThinkPad T14<br><small>SN-{n:05}</small></td><td>1–30 Nov 2026</td><td class=r>10.00</td></tr>"
PAGE = """<!doctype html><html lang=en><title>Invoice</title><style>
@page {{ size: A4; margin: 20mm; @bottom-right {{ content: counter(page) " / " counter(pages) }} }}
body {{ font: 9pt sans-serif }} table {{ width: 100%; border-collapse: collapse }} td {{ border-bottom: 1px solid #ddd }} .r {{ text-align: right }}
</style><h1>Invoice INV-2026-000001</h1><p>Acme GmbH<br>Road 2<br>10115 Berlin</p>
<table><thead><tr><th>No.<th>Product<th>Service period<th class=r>Net (EUR)</thead>{rows}</table>
<p class=r>Subtotal {net}.00 EUR<br>Tax (19%) {tax:.2f} EUR<br><b>Total {total:.2f} EUR</b></p>
<p>Please pay by 29 November 2026 to DE02 1203 0000 0000 2020 51.</p></html>"""


def invoice(lines: int) -> str:
    net = 10 * lines
    rows = "".join(ROW.format(n=n) for n in range(1, lines + 1))
    return PAGE.format(rows=rows, net=net, tax=net * 0.19, total=net * 1.19)


for lines, times in ((8, 12), (120, 5)):
    html = invoice(lines)
    HTML(string=html).write_pdf()  # fonts are looked for once
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        HTML(string=html).write_pdf()
        took.append(time.perf_counter() - begun)
    print(f"{lines} lines: {1 / statistics.median(took):.1f} a second")
