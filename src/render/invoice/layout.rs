//! Where everything stands: head, facts, table, totals and bank details, over as many pages as they need.
//!
//! Blocks go downwards, each as high as its text; whatever does not fit any more goes to the next page, where the head of the
//! table and the sum so far are said again. The address stands where the window of an envelope is.

use std::sync::Arc;

use crate::domain::document::{InvoiceDocument, InvoiceLine};
use crate::render::colour::{ACCENT, with_contrast};
use crate::render::said::{
    buyer_lines, footer_lines, in_fours, line_details, period_heading, seller_lines, seller_tax_id, shown, shown_if,
    tax_label, tax_note, title,
};
use crate::render::words::{Words, fill};

use super::logo::Picture;
use super::page::{HEIGHT, Item, Page, WIDTH};
use super::typeset::{Block, Ink, Style, Typesetter};

const INK: Ink = Ink([0x17, 0x20, 0x2b]);
const MUTED: Ink = Ink([0x5f, 0x6b, 0x7a]);
const RULE: Ink = Ink([0xdd, 0xe3, 0xea]);
const PANEL: Ink = Ink([0xf3, 0xf5, 0xf8]);

const MARGIN: f32 = 56.7;
const RIGHT: f32 = WIDTH - MARGIN;
const CONTENT: f32 = RIGHT - MARGIN;
/// Where the window of an envelope begins (DIN 5008, form B).
const WINDOW: f32 = 132.0;
/// The left column of the head, and where the right one begins.
const HALF: f32 = 244.0;
const FACTS: f32 = MARGIN + 262.0;
/// The labels of the facts.
const LABEL: f32 = 102.0;
const PADDING: f32 = 12.0;
/// What a logo may take of the head, from its upper left corner on.
const LOGO: (f32, f32) = (200.0, 56.0);
const TOP: f32 = 40.0;

/// Least contrast to the paper, of areas and of text (WCAG).
const CONTRAST_OF_AREAS: f32 = 1.5;
const CONTRAST_OF_TEXT: f32 = 4.5;

const BODY: Style = Style { size: 9.0, strong: false, ink: INK, align_right: false };
const SMALL: Style = Style { size: 7.5, strong: false, ink: MUTED, align_right: false };
const FINE: Style = Style { size: 6.8, strong: false, ink: MUTED, align_right: false };

/// Lays a document out on pages, all complete with foot and page number.
pub(super) fn lay_out(
    document: &InvoiceDocument,
    words: &'static Words,
    logo: Option<Arc<Picture>>,
    typesetter: &mut Typesetter,
) -> Vec<Page> {
    let mut sheet = Sheet::new(document, words, logo, typesetter);
    let panel = sheet.payment_panel();
    sheet.head();
    sheet.summary();
    sheet.lines();
    sheet.totals();
    sheet.payment(panel);
    let pages = sheet.finish();
    typesetter.forget();
    pages
}

/// A block drawn ahead, from the top of nowhere.
struct Panel {
    items: Vec<Item>,
    height: f32,
}

/// The pages as far as they are laid out.
struct Sheet<'a> {
    document: &'a InvoiceDocument,
    words: &'static Words,
    typesetter: &'a mut Typesetter,
    logo: Option<Arc<Picture>>,
    /// The seller's colour, for areas and for text.
    accent: Ink,
    accent_text: Ink,
    pages: Vec<Page>,
    /// Where the next block goes.
    y: f32,
    /// Where the foot begins.
    bottom: f32,
    /// How much room the totals and the panel under them take.
    closing: f32,
    columns: Columns,
    /// The net sum of the lines so far.
    carried: i64,
}

/// Left edges and widths of the table's columns.
struct Columns {
    position: (f32, f32),
    product: (f32, f32),
    period: (f32, f32),
    quantity: (f32, f32),
    amount: (f32, f32),
}

impl Columns {
    /// The product has what the others leave; a very long sum takes from it.
    fn new(amount: f32) -> Self {
        let (position, period, quantity, gap) = (20.0, 86.0, 38.0, 8.0);
        let product = CONTENT - position - period - quantity - amount - 3.0 * gap;
        let product_at = MARGIN + position;
        let period_at = product_at + product + gap;
        let quantity_at = period_at + period + gap;
        Self {
            position: (MARGIN, position),
            product: (product_at, product),
            period: (period_at, period),
            quantity: (quantity_at, quantity),
            amount: (RIGHT - amount, amount),
        }
    }
}

impl<'a> Sheet<'a> {
    fn new(
        document: &'a InvoiceDocument,
        words: &'static Words,
        logo: Option<Arc<Picture>>,
        typesetter: &'a mut Typesetter,
    ) -> Self {
        let accent = document.seller.brand.accent.unwrap_or(ACCENT);
        let longest = words.amount(document.currency, document.subtotal);
        let amount = typesetter.width(&longest, BODY.strong()).ceil().clamp(60.0, 170.0);
        let mut sheet = Self {
            document,
            words,
            typesetter,
            logo,
            accent: Ink(with_contrast(accent, CONTRAST_OF_AREAS).0),
            accent_text: Ink(with_contrast(accent, CONTRAST_OF_TEXT).0),
            pages: vec![Page::default()],
            y: MARGIN,
            bottom: 0.0,
            closing: TOTALS_ROOM,
            columns: Columns::new(amount),
            carried: 0,
        };
        sheet.bottom = HEIGHT - FOOT_MARGIN - sheet.foot().height - FOOT_GAP;
        sheet
    }

    fn set(&mut self, text: &str, style: Style, width: f32) -> Arc<Block> {
        self.typesetter.set(text, style, width)
    }

    fn push(&mut self, item: Item) {
        if let Some(page) = self.pages.last_mut() {
            page.items.push(item);
        }
    }

    /// Sets a text at a place and tells how high it is.
    fn text(&mut self, text: &str, style: Style, (x, width): (f32, f32), y: f32) -> f32 {
        let block = self.set(text, style, width);
        let height = block.height();
        self.push(Item::Text { block, x, y });
        height
    }

    /// Sets a text below what there is.
    fn below(&mut self, text: &str, style: Style, column: (f32, f32)) {
        self.y += self.text(text, style, column, self.y);
    }

    fn area(&mut self, (x, width): (f32, f32), (y, height): (f32, f32), ink: Ink) {
        self.push(Item::Area { x, y, width, height, ink });
    }

    fn rule(&mut self, (x, width): (f32, f32), y: f32, ink: Ink) {
        self.area((x, width), (y, 0.6), ink);
    }

    fn fits(&self, height: f32) -> bool {
        self.y + height <= self.bottom
    }

    /// The amount of a line or sum; the head of the column says the currency.
    fn amount(&self, minor: i64) -> String {
        self.words.amount(self.document.currency, minor)
    }

    fn money(&self, minor: i64) -> String {
        self.words.money(self.document.currency, minor)
    }

    /// Both parties, and the facts beside the address.
    fn head(&mut self) {
        let (document, words) = (self.document, self.words);
        self.letterhead();
        let title = Style { size: 22.0, ..BODY }.strong().right();
        if document.is_preview {
            let style = Style { size: 15.0, ..title }.ink(self.accent_text);
            self.text(words.preview, style, (FACTS - 60.0, RIGHT - FACTS + 60.0), 47.0);
        } else {
            self.text(words.invoice, title, (FACTS, RIGHT - FACTS), 42.0);
        }

        let mut sender = seller_lines(&document.seller);
        sender.insert(0, shown(&document.seller.name));
        self.y = self.y.max(WINDOW - 16.0) + 4.0;
        self.below(&in_one_line(&sender), FINE, (MARGIN, FACTS - MARGIN - 6.0));
        self.y = self.y.max(WINDOW) + 4.0;
        let top = self.y;
        for (index, line) in buyer_lines(&document.buyer, words).iter().enumerate() {
            let style = Style { size: 10.0, ..BODY };
            self.below(line, if index == 0 { style.strong() } else { style }, (MARGIN, HALF));
        }
        let left = self.y;
        self.y = top;
        for (label, value) in self.facts() {
            self.fact(label, &value, (FACTS, LABEL), RIGHT - FACTS - LABEL);
        }
        self.y = self.y.max(left).max(WINDOW + 94.0);
    }

    /// The logo, else the name, as the first thing on the page.
    fn letterhead(&mut self) {
        if let Some(picture) = self.logo.clone() {
            let (width, height) = picture.fitted(LOGO);
            self.push(Item::Picture { picture, x: MARGIN, y: TOP, width, height });
            self.y = TOP + height;
        } else {
            self.area((MARGIN, 34.0), (TOP, 3.0), self.accent);
            self.y = TOP + 10.0;
            let name = shown(&self.document.seller.name);
            self.below(&name, Style { size: 13.0, ..BODY }.strong(), (MARGIN, HALF));
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let (document, words) = (self.document, self.words);
        let terms = match document.terms_days() {
            0 => words.payable_at_once.to_owned(),
            days => fill(words.payable_within, &[("days", &days.to_string())]),
        };
        let mut facts = vec![
            (words.invoice_number, shown(&document.invoice_number)),
            (words.issue_date, words.date(document.issue_date)),
            (words.billing_period, words.period(document.billing_period)),
            (words.payment_terms, terms),
        ];
        if document.is_preview {
            facts.remove(0);
        }
        facts.extend(shown_if(document.buyer.reference.as_deref()).map(|text| (words.reference, text)));
        facts
    }

    /// A label and its value beside it, below what there is.
    fn fact(&mut self, label: &str, value: &str, label_column: (f32, f32), value_width: f32) {
        let style = Style { size: 8.5, ..BODY };
        let label = self.text(label, style.ink(MUTED), label_column, self.y);
        let value_at = label_column.0 + label_column.1;
        let value = self.text(value, style, (value_at, value_width), self.y);
        self.y += label.max(value) + 2.0;
    }

    /// What it is for, what is to be paid and until when, in large letters.
    fn summary(&mut self) {
        let (document, words) = (self.document, self.words);
        let cells = [
            (words.amount_due, self.money(document.total)),
            (words.due_date, words.date(document.due_date)),
            (words.concerning, shown(&document.subject_name)),
        ];
        self.y += 18.0;
        let inner = CONTENT - 2.0 * PADDING;
        let widths = [inner * 0.33, inner * 0.32, inner * 0.35];
        let value_style = Style { size: 12.0, ..BODY }.strong();
        let blocks: Vec<(Arc<Block>, Arc<Block>)> = cells
            .iter()
            .zip(widths)
            .map(|((label, value), width)| (self.set(label, SMALL, width), self.set(value, value_style, width - 8.0)))
            .collect();
        let height = blocks.iter().map(|(label, value)| label.height() + value.height()).fold(0.0, f32::max);
        self.area((MARGIN, CONTENT), (self.y, height + 2.0 * PADDING - 4.0), PANEL);
        self.area((MARGIN, 3.0), (self.y, height + 2.0 * PADDING - 4.0), self.accent);
        let (mut x, y) = (MARGIN + PADDING, self.y + PADDING - 2.0);
        for ((label, value), width) in blocks.into_iter().zip(widths) {
            let below = y + label.height();
            self.push(Item::Text { block: label, x, y });
            self.push(Item::Text { block: value, x, y: below });
            x += width;
        }
        self.y += height + 2.0 * PADDING + 14.0;
    }

    /// The table, period by period.
    fn lines(&mut self) {
        self.table_head();
        let document = self.document;
        let has_headings = document.periods().count() > 1 || document.lines.iter().any(|line| line.arrears);
        let mut position = 0;
        for lines in document.periods() {
            if has_headings {
                self.period(lines);
            }
            for line in lines {
                position += 1;
                self.line(position, line);
            }
        }
    }

    fn table_head(&mut self) {
        let (words, columns) = (self.words, &self.columns);
        let style = Style { size: 7.5, ..BODY }.strong().ink(MUTED);
        let net = fill(words.net_amount, &[("currency", self.document.currency.code())]);
        let cells = [
            (words.position, style, columns.position),
            (words.product, style, columns.product),
            (words.service_period, style, columns.period),
            (words.quantity, style, columns.quantity),
            (&*net, style.right(), (columns.amount.0 - 30.0, columns.amount.1 + 30.0)),
        ];
        for (text, style, column) in cells {
            self.text(text, style, column, self.y);
        }
        self.y += 14.0;
        self.area((MARGIN, CONTENT), (self.y, 1.0), INK);
        self.y += 1.0;
    }

    /// The heading of a period with the sum of its lines; never the last thing on a page.
    fn period(&mut self, lines: &[InvoiceLine]) {
        let Some(first) = lines.first() else { return };
        if !self.fits(20.0 + LINE_ROOM + CARRIED_ROOM) {
            self.next_page();
        }
        let style = Style { size: 8.5, ..BODY }.strong().ink(if first.arrears { self.accent_text } else { INK });
        self.area((MARGIN, CONTENT), (self.y, 19.0), PANEL);
        let sum = self.amount(lines.iter().map(|line| line.amount).sum());
        self.text(&period_heading(first, self.words), style, (MARGIN + 6.0, 300.0), self.y + 3.5);
        self.text(&sum, style.right(), self.columns.amount, self.y + 3.5);
        self.y += 19.0;
    }

    fn line(&mut self, position: usize, line: &InvoiceLine) {
        let words = self.words;
        let product = self.set(&shown(&line.product_name), BODY, self.columns.product.1);
        let details = self.set(&line_details(line, words), SMALL, self.columns.product.1);
        // Beside each other where there is room: a long invoice takes half the pages then.
        let (x, width) = self.columns.product;
        let beside = product.width() + DETAILS_GAP + details.width() <= width && product.height() < 2.0 * BODY.size;
        let details_at = if beside { (x + product.width() + DETAILS_GAP, 1.6) } else { (x, product.height()) };
        let height = product.height().max(details_at.1 + details.height()) + 5.0;
        // The last line goes along with the totals and how to pay, which would look forlorn on a page of their own.
        let is_last = position == self.document.lines.len();
        if !self.fits(height + if is_last { self.closing } else { CARRIED_ROOM }) {
            self.next_page();
        }
        let y = self.y + 2.0;
        let side = Style { size: 8.0, ..BODY }.ink(MUTED);
        let cells = [
            (position.to_string(), side, self.columns.position),
            (words.days(line.billing_period), side, self.columns.period),
            (words.one_month.to_owned(), side, self.columns.quantity),
        ];
        for (text, style, column) in cells {
            self.text(&text, style, column, y + 0.9);
        }
        self.text(&self.amount(line.amount), BODY.right(), self.columns.amount, y);
        self.push(Item::Text { block: product, x, y });
        self.push(Item::Text { block: details, x: details_at.0, y: y + details_at.1 });
        self.y += height;
        self.rule((MARGIN, CONTENT), self.y, RULE);
        self.carried += line.amount;
    }

    /// Ends a page with the sum so far, and begins the next with it.
    fn next_page(&mut self) {
        let words = self.words;
        let has_sum = self.carried > 0;
        if has_sum {
            self.carry(words.carried_forward);
        }
        self.blank_page();
        self.table_head();
        if has_sum {
            self.carry(words.brought_forward);
            self.rule((MARGIN, CONTENT), self.y, RULE);
        }
    }

    fn carry(&mut self, label: &str) {
        let style = Style { size: 8.5, ..BODY }.strong();
        self.text(label, style.ink(MUTED), (self.columns.product.0, 200.0), self.y + 4.0);
        let sum = self.amount(self.carried);
        self.text(&sum, style.right(), self.columns.amount, self.y + 4.0);
        self.y += CARRIED_ROOM;
    }

    /// A further page, which says whose and which invoice it is.
    fn blank_page(&mut self) {
        self.pages.push(Page::default());
        let (document, words) = (self.document, self.words);
        self.area((MARGIN, 34.0), (TOP, 3.0), self.accent);
        let number = format!("{} · {}", title(document, words), words.date(document.issue_date));
        let style = Style { size: 8.5, ..BODY };
        let seller = self.text(&shown(&document.seller.name), style.strong(), (MARGIN, HALF), 50.0);
        let number = self.text(&number, style.ink(MUTED).right(), (FACTS, RIGHT - FACTS), 50.0);
        self.y = 50.0 + seller.max(number) + 16.0;
    }

    /// Net, tax and total, and why there is no tax.
    fn totals(&mut self) {
        let (document, words) = (self.document, self.words);
        if !self.fits(self.closing) {
            self.next_page();
        }
        self.y += 10.0;
        let label = (RIGHT - 250.0, 100.0);
        let value = (RIGHT - 150.0, 150.0);
        for (name, amount) in
            [(words.subtotal.to_owned(), document.subtotal), (tax_label(document, words), document.tax_amount)]
        {
            let height = self.text(&name, BODY.ink(MUTED), label, self.y);
            let amount = self.money(amount);
            self.y += height.max(self.text(&amount, BODY.right(), value, self.y)) + 2.0;
        }
        self.y += 3.0;
        self.area((label.0, RIGHT - label.0), (self.y, 1.4), self.accent);
        self.y += 6.0;
        let style = Style { size: 12.0, ..BODY }.strong();
        let height = self.text(words.total, style, label, self.y);
        let total = self.money(document.total);
        self.y += height.max(self.text(&total, style.right(), value, self.y)) + 4.0;
        if let Some(note) = tax_note(document, words) {
            self.below(note, BODY.right(), (MARGIN, CONTENT));
        }
    }

    /// How to pay, drawn before all else on a page of its own: only then is known how much room the last page needs.
    fn payment_panel(&mut self) -> Panel {
        let (document, words) = (self.document, self.words);
        let rows = self.bank_details();
        let sentence = match document.total {
            _ if document.is_preview => words.do_not_pay.to_owned(),
            0 => words.nothing_to_pay.to_owned(),
            _ => fill(words.pay_by, &[("due", &words.date(document.due_date))]),
        };
        let questions =
            shown_if(document.seller.email.as_deref()).map(|email| fill(words.questions, &[("email", &email)]));
        let before = std::mem::replace(&mut self.pages, vec![Page::default()]);
        let start = std::mem::replace(&mut self.y, PADDING);
        if !rows.is_empty() {
            self.below(words.pay_to, BODY.strong(), (MARGIN + PADDING, 200.0));
            self.y += 3.0;
        }
        for (label, value) in &rows {
            self.fact(label, value, (MARGIN + PADDING, LABEL), 160.0);
        }
        let left = std::mem::replace(&mut self.y, PADDING);
        let column =
            if rows.is_empty() { (MARGIN + PADDING, CONTENT - 2.0 * PADDING) } else { (MARGIN + 285.0, 185.0) };
        self.below(&sentence, Style { size: 8.5, ..BODY }, column);
        if let Some(questions) = questions {
            self.y += 4.0;
            self.below(&questions, Style { size: 8.5, ..BODY }.ink(MUTED), column);
        }
        let height = self.y.max(left) + PADDING - 2.0;
        let drawn = std::mem::replace(&mut self.pages, before);
        self.y = start;
        self.closing = TOTALS_ROOM + PANEL_GAP + height;
        Panel { items: drawn.into_iter().flat_map(|page| page.items).collect(), height }
    }

    /// Puts the panel where it fits; it is never torn apart.
    fn payment(&mut self, panel: Panel) {
        self.y += PANEL_GAP;
        if !self.fits(panel.height) {
            self.blank_page();
        }
        self.area((MARGIN, CONTENT), (self.y, panel.height), PANEL);
        let top = self.y;
        for item in panel.items {
            self.push(moved(item, top));
        }
        self.y += panel.height;
    }

    fn bank_details(&self) -> Vec<(&'static str, String)> {
        let (document, words) = (self.document, self.words);
        let seller = &document.seller;
        let is_to_be_paid = document.total > 0 && !document.is_preview;
        let (Some(iban), true) = (shown_if(seller.iban.as_deref()), is_to_be_paid) else { return Vec::new() };
        let mut rows = vec![(words.account_holder, shown(&seller.name)), (words.iban, in_fours(&iban))];
        rows.extend(shown_if(seller.bic.as_deref()).map(|bic| (words.bic, bic)));
        rows.push((words.payment_reference, shown(&document.invoice_number)));
        rows
    }

    /// Who the seller is, in small letters: the same on each page.
    fn foot(&mut self) -> Foot {
        let (seller, words) = (&self.document.seller, self.words);
        let mut who = vec![shown(&seller.name)];
        who.extend(seller_lines(seller));
        let mut reach: Vec<String> = shown_if(seller.email.as_deref()).into_iter().collect();
        reach.extend(seller_tax_id(seller, words));
        let bank = [(words.iban, seller.iban.as_deref().map(in_fours)), (words.bic, seller.bic.clone())];
        let bank =
            bank.into_iter().filter_map(|(label, value)| Some(format!("{label} {}", shown_if(value.as_deref())?)));
        reach.extend(bank);
        let small_print = footer_lines(seller);
        let mut foot = Foot { items: Vec::new(), height: 0.0 };
        let mut x = MARGIN;
        // The small print is the longest as a rule.
        for (index, (lines, share)) in [(who, 0.28), (reach, 0.31), (small_print, 0.41)].into_iter().enumerate() {
            let width = (CONTENT - 2.0 * FOOT_GAP) * share;
            let mut y = 0.0;
            for (line, text) in lines.iter().enumerate() {
                let style = if index == 0 && line == 0 { FINE.strong() } else { FINE };
                let block = self.set(text, style, width);
                let height = block.height();
                foot.items.push(Item::Text { block, x, y });
                y += height;
            }
            foot.height = foot.height.max(y);
            x += width + FOOT_GAP;
        }
        foot
    }

    /// Gives every page its foot: how many pages there are is known only now.
    fn finish(mut self) -> Vec<Page> {
        let mut pages = std::mem::take(&mut self.pages);
        let count = pages.len().to_string();
        let y = self.bottom + FOOT_GAP;
        for (index, page) in pages.iter_mut().enumerate() {
            page.items.push(Item::Area { x: MARGIN, y: y - 6.0, width: CONTENT, height: 0.6, ink: RULE });
            page.items.extend(self.foot().items.into_iter().map(|item| moved(item, y)));
            let text = fill(self.words.page, &[("page", &(index + 1).to_string()), ("pages", &count)]);
            let block = self.set(&text, FINE.right(), 100.0);
            page.items.push(Item::Text { block, x: RIGHT - 100.0, y: y - 17.0 });
        }
        pages
    }
}

/// The lines at the foot of each page, from 0 downwards.
struct Foot {
    items: Vec<Item>,
    height: f32,
}

/// Between the foot and the edge of the paper.
const FOOT_MARGIN: f32 = 30.0;
/// Between the foot and what stands above, and between its columns.
const FOOT_GAP: f32 = 18.0;

/// What a line of the table needs as a rule.
const LINE_ROOM: f32 = 34.0;
/// Between a product and its serial number beside it.
const DETAILS_GAP: f32 = 7.0;
/// What the totals need, with a note.
const TOTALS_ROOM: f32 = 100.0;
/// Between the totals and the panel that tells how to pay.
const PANEL_GAP: f32 = 20.0;
/// What the sum so far needs at the end of a page.
const CARRIED_ROOM: f32 = 20.0;

/// Parts one after the other; a line breaks between them rather than within.
fn in_one_line(parts: &[String]) -> String {
    const CHARACTERS_MAX: usize = 400;
    let parts: Vec<String> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| part.replace(' ', "\u{a0}")).collect();
    parts.join(" · ").chars().take(CHARACTERS_MAX).collect()
}

fn moved(item: Item, down: f32) -> Item {
    match item {
        Item::Text { block, x, y } => Item::Text { block, x, y: y + down },
        Item::Area { x, y, width, height, ink } => Item::Area { x, y: y + down, width, height, ink },
        Item::Picture { picture, x, y, width, height } => Item::Picture { picture, x, y: y + down, width, height },
    }
}
