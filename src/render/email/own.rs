//! The operator's own templates: files beside the configuration that take the place of built-in ones.
//!
//! A template can read what it is handed and nothing else, and has to end soon: whoever writes one for a tenant need not be
//! trusted with the machine. One that does not work is found before a mail is sent, by making mails of sample invoices.

use std::io;
use std::path::{Path, PathBuf};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, escape_formatter};

use crate::domain::document::{Buyer, InvoiceDocument, Seller};
use crate::domain::message::clean;
use crate::render::sample;
use crate::render::words::Words;

use super::{Annex, Part, SUBJECT_MAX, View, environment};

/// Longest template, and longest part of a mail that one may make.
const BYTES_MAX: usize = 256 * 1024;
/// Steps that a template may take: some hundred lines take a tenth of it.
const FUEL: u64 = 1_000_000;
const RECURSION_MAX: usize = 100;

/// Templates from a folder; there is at least one.
pub(super) struct OwnTemplates {
    /// For subject and text; both environments hold all templates, since one may include another.
    plain: Environment<'static>,
    /// For HTML: it escapes what a plain template says too that is included there.
    html: Environment<'static>,
    folder: PathBuf,
}

impl OwnTemplates {
    /// Reads a folder and tries what is in it; `None` if it holds no template, or is not there.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, String> {
        let unreadable = |error: io::Error| format!("{}: cannot be read: {error}", folder.display());
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            if name.starts_with("invoice") {
                names.push(name);
            }
        }
        let texts = names.into_iter().map(|name| (std::fs::read(folder.join(&name)), name));
        Self::of(folder, texts.map(|(text, name)| (name, text)))
    }

    /// Tries texts that are called so in a folder.
    pub(super) fn of(
        folder: &Path,
        texts: impl IntoIterator<Item = (String, io::Result<Vec<u8>>)>,
    ) -> Result<Option<Self>, String> {
        let (plain, html) = (strict_environment(AutoEscape::None)?, strict_environment(AutoEscape::Html)?);
        let mut own = Self { plain, html, folder: folder.to_owned() };
        let mut names = Vec::new();
        for (name, text) in texts {
            own.add(&name, text)?;
            names.push(name);
        }
        for language in languages(&names) {
            own.try_on_samples(&language)?;
        }
        Ok((!names.is_empty()).then_some(own))
    }

    fn add(&mut self, name: &str, text: io::Result<Vec<u8>>) -> Result<(), String> {
        if language_and_part(name).is_none() {
            return Err(self.at(
                name,
                "no template is called so: they are invoice.subject, invoice.txt and invoice.html, and for one language \
                 invoice.de.txt and so on",
            ));
        }
        let text = text.map_err(|error| self.at(name, &format!("cannot be read: {error}")))?;
        if text.len() > BYTES_MAX {
            return Err(self.at(name, &format!("is larger than {} KiB", BYTES_MAX / 1024)));
        }
        let text = String::from_utf8(text).map_err(|_| self.at(name, "is not UTF-8"))?;
        if text.contains("autoescape") {
            return Err(self.at(name, "autoescape is not offered: in HTML every text is escaped"));
        }
        for environment in [&mut self.plain, &mut self.html] {
            let added = environment.add_template_owned(name.to_owned(), text.clone());
            added.map_err(|error| said(&self.folder, environment, name, &error))?;
        }
        Ok(())
    }

    /// Names in order, for messages.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.plain.templates().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// One part of a mail; `None` if no template of the operator's is for it.
    pub(super) fn render(&self, part: Part, locale: &str, view: &View) -> Option<Result<String, String>> {
        let language = locale.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        let names = [format!("invoice.{language}{}", part.extension()), format!("invoice{}", part.extension())];
        let name = names.iter().find(|name| self.plain.get_template(name).is_ok())?;
        Some(self.render_one(name, part, view))
    }

    fn render_one(&self, name: &str, part: Part, view: &View) -> Result<String, String> {
        let environment = if part == Part::Html { &self.html } else { &self.plain };
        let mut text = Limited(Vec::new());
        let template = environment.get_template(name);
        let rendered = template.and_then(|template| template.render_captured_to(Serde(view), &mut text).map(|_| ()));
        rendered.map_err(|error| said(&self.folder, environment, name, &error))?;
        let text = String::from_utf8(text.0).map_err(|_| self.at(name, "makes no UTF-8"))?;
        let text = if part == Part::Subject { clean(&text, SUBJECT_MAX) } else { text };
        if text.trim().is_empty() {
            return Err(self.at(name, "makes an empty text"));
        }
        Ok(text)
    }

    /// Makes mails of all sorts; the error is what the first does not like.
    fn try_on_samples(&self, language: &str) -> Result<(), String> {
        let sample = sample::invoice().ok_or("there is no sample invoice to try it on")?;
        let full = InvoiceDocument { locale: language.to_owned(), ..sample };
        let bare = InvoiceDocument { seller: Seller::default(), buyer: Buyer::default(), ..full.clone() };
        for document in [full, bare] {
            for annex in [Annex::Attached, Annex::TooLarge] {
                let view = View::new(&document, annex, Words::of(language));
                for part in Part::ALL {
                    self.render(part, language, &view).transpose()?;
                }
            }
        }
        Ok(())
    }

    fn at(&self, name: &str, message: &str) -> String {
        format!("{}: {message}", self.folder.join(name).display())
    }
}

/// File, line, and what is wrong there.
fn said(folder: &Path, environment: &Environment<'_>, name: &str, error: &Error) -> String {
    let name = error.name().unwrap_or(name);
    let line = error.line().map_or_else(String::new, |line| format!(":{line}"));
    let mut said = error.kind().to_string();
    let source = std::error::Error::source(error).map(ToString::to_string);
    if let Some(detail) = source.as_deref().or(error.detail()) {
        said = format!("{said}: {detail}");
    }
    let source = environment.get_template(name).ok().map(|template| template.source().to_owned());
    let snippet = error.range().and_then(|range| source?.get(range).map(str::to_owned));
    if let Some(snippet) = snippet.filter(|snippet| !snippet.is_empty() && snippet.len() < 100) {
        said = format!("{said} ({snippet})");
    }
    format!("{}{line}: {said}", folder.join(name).display())
}

/// `invoice.html` is for all languages, `invoice.de.html` for one.
fn language_and_part(name: &str) -> Option<(Option<&str>, Part)> {
    let rest = name.strip_prefix("invoice.")?;
    let (language, part) = match rest.rsplit_once('.') {
        Some((language, part)) => (Some(language), part),
        None => (None, rest),
    };
    let is_language = |text: &str| (2..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let part = Part::ALL.into_iter().find(|known| known.extension().strip_prefix('.') == Some(part))?;
    language.is_none_or(is_language).then_some((language, part))
}

/// The languages to try: those that have a template of their own, and one that has not.
fn languages(names: &[String]) -> Vec<String> {
    let own = names.iter().filter_map(|name| language_and_part(name)?.0).map(str::to_owned);
    let mut languages: Vec<String> = own.chain(["en".to_owned()]).collect();
    languages.sort_unstable();
    languages.dedup();
    languages
}

fn strict_environment(escape: AutoEscape) -> Result<Environment<'static>, String> {
    let mut environment = environment().map_err(|error| format!("the template engine does not work: {error}"))?;
    environment.set_auto_escape_callback(move |_| escape.clone());
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_debug(true);
    // Nothing from outside gets into a mail as markup.
    environment.remove_filter("safe");
    // Else it would say "none" to the customer.
    environment.set_formatter(|out, state, value| match value.is_none() {
        true => Err(Error::new(ErrorKind::UndefinedError, "not every invoice has it: ask {% if … %} before")),
        false => escape_formatter(out, state, value),
    });
    Ok(environment)
}

/// A text that may not become longer than a mail's part.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BYTES_MAX {
            return Err(io::Error::other(format!("it makes more than {} KiB", BYTES_MAX / 1024)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::email::MailTemplates;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::TempDir::new().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    /// What is said of one template, without the folder.
    fn refused(name: &str, text: &str) -> String {
        let folder = folder(&[(name, text)]);
        let said = MailTemplates::with_own(folder.path()).err().expect(text);
        said.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn own_parts_take_the_place_of_built_in_ones_by_language() {
        let folder = folder(&[
            ("invoice.subject", "Bill\n{{ invoice_number }}"),
            ("invoice.de.html", "<p>{{ seller.name }}</p>"),
            ("README", "{{ nothing"),
        ]);
        let templates = MailTemplates::with_own(folder.path()).unwrap();
        assert_eq!(templates.own_names(), ["invoice.de.html", "invoice.subject"]);
        let mut document = sample::invoice().unwrap();
        document.seller.name = "Müller & <Söhne>".into();
        let english = templates.render(&document, Annex::Attached).unwrap();
        let built_in = MailTemplates::new().unwrap().render(&document, Annex::Attached).unwrap();
        assert_eq!(english.subject, "Bill INV-2026-000001");
        assert_eq!((english.text, english.html), (built_in.text, built_in.html));
        document.locale = "de-AT".into();
        let german = templates.render(&document, Annex::Attached).unwrap();
        assert_eq!(german.html, "<p>Müller &amp; &lt;Söhne&gt;</p>");
        assert!(german.text.contains("Guten Tag"));
    }

    #[test]
    fn html_escapes_what_it_takes_from_a_plain_template_too() {
        let mut document = sample::invoice().unwrap();
        document.seller.name = "<b>".into();
        for html in [
            "{% include 'invoice.txt' %}",
            "{% extends 'invoice.txt' %}",
            "{% import 'invoice.txt' as t %}{{ t.f(seller.name) }}.",
        ] {
            let text = "{{ seller.name }}.{% macro f(x) %}{{ x }}{% endmacro %}";
            let folder = folder(&[("invoice.html", html), ("invoice.txt", text)]);
            let mail = MailTemplates::with_own(folder.path()).unwrap().render(&document, Annex::Attached).unwrap();
            assert_eq!((mail.text.as_str(), mail.html.as_str()), ("<b>.", "&lt;b&gt;."), "{html}");
        }
    }

    #[test]
    fn without_a_folder_all_is_built_in() {
        let templates = MailTemplates::with_own(Path::new("there is none")).unwrap();
        assert!(templates.own_names().is_empty());
    }

    #[test]
    fn what_does_not_work_is_told_with_file_line_and_reason() {
        for (name, text, said) in [
            ("invoice.txt", "a\n{{ seller.nam }}", "invoice.txt:2: undefined value"),
            ("invoice.txt", "a\n{{ seller.nam }}", "(seller.nam)"),
            ("invoice.html", "{% if x %}", "invoice.html:1: syntax error"),
            ("invoice.txt", "{{ seller.iban }}", "not every invoice has it: ask {% if … %} before"),
            ("invoice.txt", "  \n", "invoice.txt: makes an empty text"),
            ("invoice.html", "{{ seller.name | safe }}", "unknown filter"),
            ("invoice.html", "{% autoescape false %}{{ intro }}{% endautoescape %}", "autoescape is not offered"),
            ("invoice.txt", "{% include '/etc/hostname' %}", "invoice.txt:1: template not found"),
            ("invoice.txt", "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", "fuel"),
            ("invoice.txt", "{% for a in range(90000) %}abcdefgh{% endfor %}", "makes more than 256 KiB"),
            ("invoice.txt", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
            ("invoice.de.text", "a", "no template is called so"),
            ("invoice.german.txt", "a", "no template is called so"),
        ] {
            let refused = refused(name, text);
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }

    #[test]
    fn every_name_in_the_documentation_exists() {
        let page = include_str!("../../../docs/templates.md");
        let (_, table) = page.split_once("| Name | What it is |").unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        // What another column quotes belongs to the name before, but for the words.
        let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
        let names: Vec<&str> = quoted.filter(|name| *name != "questions").collect();
        let in_a_line = ["heading", "lines", "product", "details", "amount"];
        let names = names.into_iter().filter(|name| !in_a_line.contains(name) && !name.starts_with('#'));
        let names: Vec<&str> = names.filter(|name| !["more.label", "more.amount"].contains(name)).collect();
        assert!(names.len() > 40, "{names:?}");
        let asked: String = names
            .iter()
            .map(|name| format!("{{% if {name} is undefined %}}{{{{ there_is_no_such[\"{name}\"] }}}}{{% endif %}}"))
            .collect();
        let folder = folder(&[("invoice.txt", &format!("{asked}."))]);
        MailTemplates::with_own(folder.path()).map(|_| ()).unwrap();
    }
}
