//! `billday tenant`: sellers and their settings.

use clap::Subcommand;

use crate::domain::money::format_percent;
use crate::domain::tenant::{BillingCycle, Tenant};

use super::{App, Exit, Wrong, table};

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// All tenants
    List,
    /// One tenant's settings
    Show { tenant: String },
}

pub(super) async fn tenant(app: &App, command: TenantCommand) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    session.end().await;
    let mut out = std::io::stdout();
    match command {
        TenantCommand::List if tenants.is_empty() => eprintln!("there is no tenant yet"),
        TenantCommand::List => {
            let rows: Vec<Vec<String>> = tenants
                .iter()
                .map(|(id, tenant)| match tenant {
                    Ok(t) => vec![id.clone(), t.name.clone(), t.currency.to_string(), t.time_zone.to_string()],
                    Err(bad) => vec![id.clone(), format!("unusable: {} is '{}'", bad.field, bad.value)],
                })
                .collect();
            table::write(&mut out, &["TENANT", "NAME", "CURRENCY", "TIME ZONE"], &rows)?;
        }
        TenantCommand::Show { tenant } => {
            let found = tenants.into_iter().find(|(id, _)| *id == tenant).map(|(_, found)| found);
            match found {
                None => return Err(Wrong(format!("there is no tenant {tenant}")).into()),
                Some(Err(bad)) => anyhow::bail!("tenant {tenant}: its {} is '{}'", bad.field, bad.value),
                Some(Ok(tenant)) => table::write(&mut out, &["SETTING", "VALUE"], &settings(&tenant))?,
            }
        }
    }
    Ok(Exit::Done)
}

fn settings(tenant: &Tenant) -> Vec<Vec<String>> {
    let cycle = match tenant.billing_cycle {
        BillingCycle::StartDate => "startDate".to_owned(),
        BillingCycle::FixedDay(day) => format!("fixedDay {}", day.number()),
    };
    [
        ("tenantId", tenant.tenant_id.clone()),
        ("name", tenant.name.clone()),
        ("currency", tenant.currency.to_string()),
        ("timeZone", tenant.time_zone.to_string()),
        ("locale", tenant.locale.clone()),
        ("billingCycle", cycle),
        ("contractEnd", tenant.contract_end.as_str().to_owned()),
        ("billFrom", tenant.bill_from.to_string()),
        ("paymentTermsDays", tenant.payment_terms_days.to_string()),
        ("tax", format!("{} {} %", tenant.tax.mode.as_str(), format_percent(tenant.tax.rate_ppm))),
        ("invoiceNumberFormat", tenant.invoice_number_format.to_string()),
        ("firstInvoiceNumber", tenant.first_invoice_number.to_string()),
        ("catchUpDays", tenant.catch_up_days.to_string()),
        ("maxArrears", tenant.max_arrears.to_string()),
    ]
    .into_iter()
    .map(|(setting, value)| vec![setting.to_owned(), value])
    .collect()
}
