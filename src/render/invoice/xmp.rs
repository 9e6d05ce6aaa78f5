//! The note in a PDF's metadata that it is a Factur-X invoice, which the PDF writer cannot write yet.
//!
//! Its metadata stream is plain text and its table of places is plain too, so the note is put into the finished file: the
//! stream grows, its length is rewritten, and every object behind it moves by as much.

use anyhow::{Context, bail};

/// The name that Factur-X gives the annex.
pub(super) const FILE_NAME: &str = "factur-x.xml";

/// Describes the four properties to readers that do not know them, as PDF/A demands.
const SCHEMA: &str = r#"<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema><pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property></rdf:li>"#;
const PROPERTY: &str = r#"<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name><pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category><pdfaProperty:description>{description}</pdfaProperty:description></rdf:li>"#;
const PROPERTIES: [(&str, &str, &str); 4] = [
    ("DocumentFileName", FILE_NAME, "The name of the embedded XML document"),
    ("DocumentType", "INVOICE", "The type of the hybrid document in capital letters"),
    ("Version", "1.0", "The version of the standard that the XML document follows"),
    ("ConformanceLevel", "EN 16931", "The conformance level of the XML document"),
];

const BAG: &str = "<pdfaExtension:schemas><rdf:Bag>";
const END: &str = "</rdf:RDF>";

/// Puts the note into a file of the PDF writer; an error if the file is not laid out as expected.
pub(super) fn mark_as_factur_x(pdf: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let start = find(&pdf, b"<?xpacket begin", 0).context("the PDF has no plain metadata")?;
    let bag = find(&pdf, BAG.as_bytes(), start).context("the metadata describe no extensions")? + BAG.len();
    let end = find(&pdf, END.as_bytes(), bag).context("the metadata do not end")?;
    let (schema, values) = (schema(), values());
    let length = length_before(&pdf, start)?;
    let old_length: usize =
        std::str::from_utf8(&pdf[length.clone()])?.parse().context("the metadata have no length")?;
    let new_length = (old_length + schema.len() + values.len()).to_string();

    let mut marked = Vec::with_capacity(pdf.len() + 4_096);
    marked.extend_from_slice(&pdf[..length.start]);
    marked.extend_from_slice(new_length.as_bytes());
    marked.extend_from_slice(&pdf[length.end..bag]);
    marked.extend_from_slice(schema.as_bytes());
    marked.extend_from_slice(&pdf[bag..end]);
    marked.extend_from_slice(values.as_bytes());
    let table = find(&pdf, b"\nxref\n", end).context("the PDF has no plain table of places")? + 1;
    marked.extend_from_slice(&pdf[end..table]);
    let moved = marked.len() - table;
    append_table(&mut marked, &pdf, table, start, moved)?;
    Ok(marked)
}

/// The digits of the last `/Length` before a stream.
fn length_before(pdf: &[u8], stream: usize) -> anyhow::Result<std::ops::Range<usize>> {
    const KEY: &[u8] = b"/Length ";
    let key = pdf[..stream].windows(KEY.len()).rposition(|window| window == KEY);
    let digits = key.context("the metadata have no length")? + KEY.len();
    let count = pdf[digits..stream].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Ok(digits..digits + count)
}

/// Copies the table of places and what follows it; objects that begin behind `grown` stand `moved` bytes later now.
fn append_table(marked: &mut Vec<u8>, pdf: &[u8], table: usize, grown: usize, moved: usize) -> anyhow::Result<()> {
    let new_table = marked.len();
    let mut lines = pdf[table..].split_inclusive(|byte| *byte == b'\n');
    for line in lines.by_ref() {
        if line.starts_with(b"startxref") {
            break;
        }
        // An entry: ten digits, the generation, and whether it is in use.
        if line.len() == 20 && line[17] == b'n' {
            let place: usize =
                std::str::from_utf8(&line[..10])?.parse().context("the table of places has no number")?;
            let place = if place > grown { place + moved } else { place };
            marked.extend_from_slice(format!("{place:010}").as_bytes());
            marked.extend_from_slice(&line[10..]);
        } else {
            marked.extend_from_slice(line);
        }
    }
    if lines.next().is_none() {
        bail!("the PDF does not say where its table of places is");
    }
    marked.extend_from_slice(format!("startxref\n{new_table}\n%%EOF").as_bytes());
    Ok(())
}

fn schema() -> String {
    let property = |(name, _, description): &(&str, &str, &str)| {
        PROPERTY.replace("{name}", name).replace("{description}", description)
    };
    SCHEMA.replace("{properties}", &PROPERTIES.iter().map(property).collect::<String>())
}

fn values() -> String {
    let values: String = PROPERTIES.iter().map(|(name, value, _)| format!("<fx:{name}>{value}</fx:{name}>")).collect();
    format!(
        r#"<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">{values}</rdf:Description>"#
    )
}

fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|at| at + from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_laid_out_otherwise_is_refused() {
        for pdf in [&b""[..], b"%PDF-1.7", b"/Length 9 <?xpacket begin <pdfaExtension:schemas><rdf:Bag></rdf:RDF>"] {
            assert!(mark_as_factur_x(pdf.to_vec()).is_err());
        }
    }

    #[test]
    fn what_stands_behind_the_metadata_moves_and_the_table_says_so() {
        let body = format!(
            "%PDF\n1 0 obj\n<</Length {}>>\nstream\n<?xpacket begin {BAG}</rdf:Bag>{END}end\nendstream\n2 0 obj\n",
            9
        );
        let second = body.len() - "2 0 obj\n".len();
        let entries = format!("0000000000 65535 f\r\n{:010} 00000 n\r\n{second:010} 00000 n\r\n", 5);
        let pdf = format!("{body}\nxref\n0 3\n{entries}trailer\n<<>>\nstartxref\n{}\n%%EOF", body.len() + 1);
        let marked = String::from_utf8(mark_as_factur_x(pdf.into_bytes()).unwrap()).unwrap();
        let table = marked.find("\nxref\n").unwrap() + 1;
        assert!(marked.contains(&format!("{:010} 00000 n", marked.find("2 0 obj").unwrap())), "{marked}");
        assert!(marked.contains("0000000005 00000 n") && marked.ends_with(&format!("startxref\n{table}\n%%EOF")));
        assert!(marked.contains(&format!("/Length {}>>", 9 + schema().len() + values().len())));
    }
}
