//! What an import makes of files by themselves, before it asks a database anything.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::store::import::{CustomerContent, GroupContent, Incoming, PaymentContent, RentalContent, TenantContent};

use super::files::Files;
use super::record::Basics;
use super::{Chunk, Complaint, ImportError, ImportFile, Job, Pass, Reader};

/// The records that can be read, and what is said of the others.
#[derive(Debug, Default)]
pub struct Examined {
    pub tenants: Vec<Incoming<TenantContent>>,
    pub customers: Vec<Incoming<CustomerContent>>,
    pub rentals: Vec<Incoming<RentalContent>>,
    pub groups: Vec<Incoming<GroupContent>>,
    pub payments: Vec<Incoming<PaymentContent>>,
    /// The first ones.
    pub complaints: Vec<Complaint>,
    /// How many there are in all.
    pub complaints_total: u64,
}

/// Reads files as [`import`](super::import) does, into a database without tenants; what holds between records is not looked at.
pub fn examine(files: &[ImportFile], tenant: Option<&str>, now: DateTime<Utc>) -> Result<Examined, ImportError> {
    let job = Job { files: Files::open(files)?, tenant: tenant.map(str::to_owned), change: None, now };
    let mut found = Examined::default();
    let tenants = Reader::new(&job, Pass::Tenants, HashMap::new(), Box::new(|chunk| found.take(chunk))).read();
    let mut complaints = tenants.complaints;
    if !tenants.broken {
        let read = found.tenants.iter();
        let read = read
            .map(|tenant| (tenant.tenant_id.clone(), Basics::of(&tenant.content.currency, &tenant.content.time_zone)));
        let mut basics: HashMap<_, _> = read.collect();
        for (tenant_id, refused) in tenants.refused {
            basics.entry(tenant_id).or_insert(refused);
        }
        let others = Reader::new(&job, Pass::Others, basics, Box::new(|chunk| found.take(chunk))).read();
        complaints.append(others.complaints);
    }
    (found.complaints, found.complaints_total) = (complaints.first, complaints.total);
    Ok(found)
}

impl Examined {
    fn take(&mut self, chunk: Chunk) -> bool {
        match chunk {
            Chunk::Tenants(records) => self.tenants.extend(records),
            Chunk::Customers(records) => self.customers.extend(records),
            Chunk::Rentals(records) => self.rentals.extend(records),
            Chunk::Groups(records) => self.groups.extend(records),
            Chunk::Payments(records) => self.payments.extend(records),
            // Their complaints say it.
            Chunk::Rejected(_) => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_line_whatever_the_file_holds() {
        let file = ImportFile::text("f", r#"{"a\nb": 1, "a\nb": 2, "tenantId": "T", "name": "x"}"#);
        let found = examine(&[file], None, DateTime::UNIX_EPOCH).unwrap();
        let said: Vec<String> = found.complaints.iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "f:1: tenant 'T': a\u{FFFD}b: is there twice");
        assert_eq!((found.complaints_total, found.tenants.len()), (3, 0), "{said:?}");
    }
}
