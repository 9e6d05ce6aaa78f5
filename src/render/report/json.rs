//! The report as a program reads it: `billday.report/1`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Number;

use super::total_currency;
use crate::domain::plan::{BadRecord, Problem, SkipCode, Withheld};
use crate::domain::report::{Delivery, RunReport, TenantReport, Totals};
use crate::domain::{Subject, SubjectKind};
use crate::render::spool::PaymentSpool;

const SCHEMA: &str = "billday.report/1";

pub(super) fn write(out: &mut dyn Write, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
    let mut object = Object::open(out)?;
    object.field("schema", SCHEMA)?;
    object.field("dryRun", &report.dry_run)?;
    object.field("planHash", &report.plan_hash)?;
    if let Some(run_date) = report.run_date {
        object.field("runDate", &run_date.to_string())?;
    }
    object.list("tenants", |list| {
        for (tenant, spool) in report.tenants.iter().zip(payments) {
            write_tenant(list.next()?, tenant, spool)?;
        }
        Ok(())
    })?;
    object.close()?;
    Ok(out.write_all(b"\n")?)
}

fn write_tenant(out: &mut dyn Write, tenant: &TenantReport, payments: &mut PaymentSpool) -> anyhow::Result<()> {
    let mut object = Object::open(out)?;
    object.field("tenantId", &tenant.tenant_id)?;
    object.field("runDate", &tenant.run_date.to_string())?;
    // The payments lie there as the JSON that they are shown as.
    object.list("payments", |list| payments.for_each_line(|line| Ok(list.next()?.write_all(line)?)))?;
    object.list("skipped", |list| {
        tenant.skipped.iter().try_for_each(|(subject, code)| list.item(&WireSkipped::new(subject, *code)))
    })?;
    object.list("parked", |list| {
        tenant.parked.iter().try_for_each(|(subject, problem)| list.item(&WireParked::new(subject, problem)))
    })?;
    object.list("withheld", |list| tenant.withheld.iter().try_for_each(|gaps| list.item(&WireWithheld::new(gaps))))?;
    object.field("alreadyBilled", &tenant.already_billed)?;
    object.field("neverCharged", &tenant.never_charged)?;
    object.field("totals", &wire_totals(&tenant.totals)?)?;
    object.field("delivery", &WireDelivery::new(tenant.delivery))?;
    object.close()
}

/// An object whose fields are written as they come, so that one of them may be longer than memory.
struct Object<'a> {
    out: &'a mut dyn Write,
    separator: &'static [u8],
}

impl<'a> Object<'a> {
    fn open(out: &'a mut dyn Write) -> anyhow::Result<Self> {
        Ok(Self { out, separator: b"{" })
    }

    fn key(&mut self, name: &str) -> anyhow::Result<()> {
        self.out.write_all(std::mem::replace(&mut self.separator, b","))?;
        Ok(write!(self.out, "\"{name}\":")?)
    }

    fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
        self.key(name)?;
        to_json(&mut *self.out, value)
    }

    fn list(&mut self, name: &str, fill: impl FnOnce(&mut List<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.key(name)?;
        self.out.write_all(b"[")?;
        fill(&mut List { out: &mut *self.out, separator: b"" })?;
        Ok(self.out.write_all(b"]")?)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(self.out.write_all(b"}")?)
    }
}

struct List<'a> {
    out: &'a mut dyn Write,
    separator: &'static [u8],
}

impl List<'_> {
    /// Where the next item goes.
    fn next(&mut self) -> anyhow::Result<&mut dyn Write> {
        self.out.write_all(std::mem::replace(&mut self.separator, b","))?;
        Ok(&mut *self.out)
    }

    fn item(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        to_json(self.next()?, value)
    }
}

/// An error of the writer comes back as it was, so that a caller can tell a closed pipe from a full disk.
fn to_json(out: &mut dyn Write, value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    Ok(serde_json::to_writer(out, value).map_err(io::Error::from)?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSubject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rental_id: Option<&'a str>,
}

impl<'a> WireSubject<'a> {
    fn new(subject: &'a Subject) -> Self {
        let id = Some(subject.id.as_str());
        match subject.kind {
            SubjectKind::Group => Self { billing_group_id: id, rental_id: None },
            SubjectKind::Rental => Self { billing_group_id: None, rental_id: id },
        }
    }
}

#[derive(Serialize)]
struct WireSkipped<'a> {
    #[serde(flatten)]
    subject: WireSubject<'a>,
    code: &'a str,
    message: &'a str,
}

impl<'a> WireSkipped<'a> {
    fn new(subject: &'a Subject, code: SkipCode) -> Self {
        Self { subject: WireSubject::new(subject), code: code.as_str(), message: code.message() }
    }
}

#[derive(Serialize)]
struct WireParked<'a> {
    #[serde(flatten)]
    subject: WireSubject<'a>,
    code: &'a str,
    message: &'a str,
    records: Vec<WireRecord<'a>>,
}

impl<'a> WireParked<'a> {
    fn new(subject: &'a Subject, problem: &'a Problem) -> Self {
        Self {
            subject: WireSubject::new(subject),
            code: problem.code.as_str(),
            message: &problem.message,
            records: problem.records.iter().map(WireRecord::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct WireRecord<'a> {
    kind: &'a str,
    id: &'a str,
    field: &'a str,
    value: &'a str,
}

impl<'a> WireRecord<'a> {
    fn new(BadRecord { kind, id, field, value }: &'a BadRecord) -> Self {
        Self { kind, id, field, value }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireWithheld<'a> {
    rental_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_group_id: Option<&'a str>,
    periods: Vec<String>,
}

impl<'a> WireWithheld<'a> {
    fn new(withheld: &'a Withheld) -> Self {
        Self {
            rental_id: &withheld.rental_id,
            billing_group_id: withheld.billing_group_id.as_deref(),
            periods: withheld.periods.iter().map(ToString::to_string).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTotals {
    payments: u64,
    subtotal: Number,
    tax_amount: Number,
    total: Number,
}

fn wire_totals(totals: &BTreeMap<String, Totals>) -> anyhow::Result<BTreeMap<&str, WireTotals>> {
    let wire = |(code, totals): (&'_ String, &Totals)| {
        let currency = total_currency(code)?;
        let number = |minor| anyhow::Ok(currency.format_sum(minor).parse::<Number>()?);
        anyhow::Ok(WireTotals {
            payments: totals.payments,
            subtotal: number(totals.subtotal)?,
            tax_amount: number(totals.tax_amount)?,
            total: number(totals.total)?,
        })
    };
    totals.iter().map(|entry| Ok((entry.0.as_str(), wire(entry)?))).collect()
}

#[derive(Serialize)]
struct WireDelivery {
    waiting: u64,
    sent: u64,
    failed: u64,
    undeliverable: u64,
}

impl WireDelivery {
    fn new(Delivery { waiting, sent, failed, undeliverable }: Delivery) -> Self {
        Self { waiting, sent, failed, undeliverable }
    }
}

#[cfg(test)]
mod tests {
    use crate::render::report::samples::{self, render};
    use crate::render::report::write_json;
    use crate::render::spool::PaymentSpool;

    #[test]
    fn a_report_is_one_line_of_the_published_schema() {
        let (report, mut spools) = samples::busy_report();
        let payments: Vec<String> = samples::busy_payments()
            .iter()
            .map(|payment| serde_json::to_string(&samples::wire(payment)).unwrap())
            .collect();
        let expected = format!(
            concat!(
                r#"{{"schema":"billday.report/1","dryRun":true,"planHash":"0badc0de","runDate":"2026-11-15","tenants":["#,
                r#"{{"tenantId":"acme","runDate":"2026-11-15","payments":[{payments}],"#,
                r#""skipped":[{{"billingGroupId":"G7","code":"NO_BILLABLE_RENTAL","message":"no rental can be charged on this date"}}],"#,
                r#""parked":[{{"billingGroupId":"G8","code":"SUBSCRIPTION_CURRENCY_MISMATCH","#,
                r#""message":"its rentals are priced in EUR and USD: one payment has one currency","#,
                r#""records":[{{"kind":"rental","id":"R81","field":"currency","value":"EUR"}},"#,
                r#"{{"kind":"rental","id":"R82","field":"currency","value":"USD"}}]}},"#,
                r#"{{"rentalId":"R9","code":"CUSTOMER_NOT_FOUND","message":"there is no customer C9","records":[]}}],"#,
                r#""withheld":[{{"rentalId":"R5","billingGroupId":"G1","periods":["2026-06","2026-07","2026-08"]}},"#,
                r#"{{"rentalId":"R6","periods":["2026-09"]}}],"#,
                r#""alreadyBilled":4,"neverCharged":2,"totals":{{"#,
                r#""EUR":{{"payments":2,"subtotal":426.00,"taxAmount":80.94,"total":506.94}},"#,
                r#""JPY":{{"payments":1,"subtotal":4900,"taxAmount":931,"total":5831}},"#,
                r#""KWD":{{"payments":1,"subtotal":4.900,"taxAmount":0.931,"total":5.831}}}},"#,
                r#""delivery":{{"waiting":3,"sent":0,"failed":0,"undeliverable":1}}}},"#,
                r#"{{"tenantId":"beta","runDate":"2026-11-15","payments":[],"skipped":[],"parked":[],"withheld":[],"#,
                r#""alreadyBilled":0,"neverCharged":0,"totals":{{}},"delivery":{{"waiting":0,"sent":0,"failed":0,"undeliverable":0}}}}]}}"#,
                "\n"
            ),
            payments = payments.join(",")
        );
        assert_eq!(render(write_json, &report, &mut spools), expected);
    }

    #[test]
    fn hundreds_of_payments_make_one_valid_object() {
        let (mut report, _) = samples::busy_report();
        report.tenants.truncate(1);
        let mut spool = PaymentSpool::all();
        for number in 0..400 {
            spool.push(&samples::wire(&samples::group_payment("EUR", &format!("G{number}"), "a\nb", &[100]))).unwrap();
        }
        let text = render(write_json, &report, &mut [spool]);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["tenants"][0]["payments"].as_array().unwrap().len(), 400);
        assert_eq!(value["tenants"][0]["payments"][399]["groupName"], "a\nb");
    }
}
