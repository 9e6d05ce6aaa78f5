//! A company whose API is served on a free port.

use std::net::SocketAddr;

use billday::api::{Api, Settings, new_token, serve};
use billday::store::keys::NewKey;
use billday::store::runs::{RunKind, RunStart};
use chrono::NaiveDate;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::TestDb;
use super::http::{HttpRequest, Reply};
use super::world::{World, group, rental, tenant};

/// Tenant `T` with customers `C` and `D`, rentals `R1` … `R5` of `C`, group `G1` of `R1` and `R2`; `S1` is of `D`, `X` has ended,
/// `USD` is in dollars. `P1` is an imported payment that waits, `RUN` a run that was cut off at once. Tenant `U` has records of the same kinds with other ids.
pub struct ApiWorld {
    pub world: World,
    pub address: SocketAddr,
    /// A key that may do everything for `T`.
    pub key: String,
    end: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

/// What a key may do.
#[derive(Default)]
pub struct KeyRights<'a> {
    pub tenants: &'a [&'a str],
    pub read_only: bool,
    pub expires_on: Option<NaiveDate>,
}

impl ApiWorld {
    pub async fn new(db: TestDb) -> Self {
        Self::with_settings(db, Settings::default()).await
    }

    pub async fn with_settings(db: TestDb, settings: Settings) -> Self {
        let world = World::new(db).await;
        world.today("2026-06-10");
        world.import(data()).await;
        for (tenant_id, run_id) in [("T", "RUN"), ("U", "URUN")] {
            record_run(&world, tenant_id, run_id).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let api = Api::new(world.db.store.clone(), world.clock.clone(), settings);
        let (end, ended) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, api, async move {
            let _ = ended.await;
        }));
        let mut served = Self { world, address, key: String::new(), end: Some(end), server: Some(server) };
        served.key = served.new_key(KeyRights { tenants: &["T"], ..KeyRights::default() }).await;
        served
    }

    /// Makes a key as `billday key create` does.
    pub async fn new_key(&self, rights: KeyRights<'_>) -> String {
        let token = new_token().expect("a key");
        let key = NewKey {
            key_id: token.key_id,
            name: None,
            secret_hash: token.secret_hash,
            read_only: rights.read_only,
            expires_on: rights.expires_on,
            created_by: "test".into(),
            created_at: 0,
            tenant_ids: rights.tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        };
        let write = self.world.db.store.with_tx(move |tx| Box::pin(async move { tx.insert_key(&key).await }));
        write.await.expect("a stored key");
        token.secret
    }

    /// A request with the key, for tenant `T`.
    pub fn request(&self, method: &str, target: &str) -> HttpRequest {
        let request = HttpRequest::new(method, target).header("Authorization", &format!("Bearer {}", self.key));
        request.header("Tenant-ID", "T")
    }

    pub async fn send(&self, request: HttpRequest) -> Reply {
        request.send(self.address).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send(self.request("GET", target)).await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Reply {
        self.send(self.request("POST", target).json(body)).await
    }

    pub async fn put(&self, target: &str, body: &Value) -> Reply {
        self.send(self.request("PUT", target).json(body)).await
    }

    pub async fn patch(&self, target: &str, body: &Value) -> Reply {
        self.send(self.request("PATCH", target).json(body)).await
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.send(self.request("DELETE", target)).await
    }

    /// Tells the server to end, and waits until it has.
    pub async fn end(&mut self) {
        self.tell_to_end();
        self.wait_for_end().await;
    }

    pub async fn wait_for_end(&mut self) {
        self.server.take().expect("a server").await.expect("an orderly end");
    }

    /// Tells the server to end, and does not wait.
    pub fn tell_to_end(&mut self) {
        let _ = self.end.take().expect("a server").send(());
    }
}

impl Drop for ApiWorld {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// A run of an early date that was cut off before it billed anybody.
async fn record_run(world: &World, tenant_id: &'static str, run_id: &'static str) {
    let write = world.db.store.with_tx(move |tx| {
        Box::pin(async move {
            let start = RunStart {
                run_id,
                run_date: NaiveDate::from_ymd_opt(2020, 1, 1).expect("a date"),
                kind: RunKind::Explicit,
                requested_by: "test",
                subject: None,
                expected_plan: None,
                share: None,
                now: 1,
            };
            tx.insert_run(tenant_id, &start).await?;
            tx.fail_run(tenant_id, run_id, "interrupted", 2).await
        })
    });
    write.await.expect("a run on record");
}

/// What a request creates; `with` replaces parts, a null takes one away.
pub fn new_group(with: Value) -> Value {
    let mut body = json!({"customerId": "C", "groupName": "Office", "billingDay": 15, "rentalIds": ["R3", "R4"]});
    let fields = body.as_object_mut().expect("an object");
    for (name, value) in with.as_object().expect("an object") {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    body
}

fn data() -> Value {
    let mut records = tenant("U", json!({"name": "Other Ltd", "currency": "JPY", "timeZone": "Asia/Tokyo"}));
    let ended = json!({"status": "cancelled", "cancelledAt": "2026-05-01"});
    let more = [
        json!({"tenantId": "T", "customerId": "D", "company": "Deer", "email": "d@deer.example"}),
        rental("R1", "2026-01-01", json!({"monthlyAmount": "129.00"})),
        rental("R2", "2026-01-01", json!({"monthlyAmount": "89.00"})),
        rental("R3", "2026-01-01", json!({"monthlyAmount": "159.00"})),
        rental("R4", "2026-01-01", json!({"monthlyAmount": "0.50"})),
        rental("R5", "2026-01-01", json!({})),
        rental("S1", "2026-01-01", json!({"customerId": "D"})),
        rental("X", "2026-01-01", ended),
        rental("USD", "2026-01-01", json!({"currency": "USD"})),
        group("G1", 15, &["R1", "R2"]),
        json!({"tenantId": "U", "customerId": "UC", "company": "Umbrella"}),
        json!({"tenantId": "U", "rentalId": "UR", "customerId": "UC", "monthlyAmount": 500, "startDate": "2026-01-01"}),
        json!({"tenantId": "T", "paymentId": "P1", "customerId": "C", "rentalId": "X", "billingPeriod": "2026-02",
               "subtotal": 10, "status": "pending"}),
        json!({"tenantId": "U", "paymentId": "UP", "customerId": "UC", "rentalId": "UR", "billingPeriod": "2025-12",
               "subtotal": 500, "status": "pending"}),
        json!({"tenantId": "U", "billingGroupId": "UG", "customerId": "UC", "billingDay": 1, "rentalIds": ["UR"]}),
    ];
    records.as_array_mut().expect("records").extend(more);
    records
}
