//! Postgres by TLS, with certificates of a CA that only this test knows.

use delayed_jobs::StoreError;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sqlx::{Executor, Row};

use super::*;

/// The certificate of a CA, and what signs with it.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), Issuer::new(params, key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_if_the_right_authority_has_signed_its_name() {
    let (ours, issuer) = authority();
    let (other, _) = authority();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("it is signed");
    let files = [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        // Nothing but TLS.
        (
            "pg_hba.conf",
            "hostssl all all 127.0.0.1/32 trust\n".to_owned(),
        ),
    ];
    let Some(server) = support::Postgres::start_with(support::Disk::Trusted, &files, "ssl = on\n")
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let (ours, other) = (file("ours.pem", &ours), file("other.pem", &other));
    let database = server.database().await;
    let by_name = database.replace("127.0.0.1", "localhost");
    let open = async |url: &str, root: &str| {
        let root = match root {
            "" => String::new(),
            root => format!("&sslrootcert={root}"),
        };
        Queue::open(&format!("{url}?sslmode=verify-full{root}")).await
    };

    for (url, root) in [
        (&by_name, ""),
        (&by_name, other.as_str()),
        (&database, ours.as_str()),
    ] {
        let refused = open(url, root).await.expect_err("it is not to be believed");
        let words = refused.to_string();
        assert!(
            matches!(refused, StoreError::Postgres(sqlx::Error::Tls(_)))
                || words.contains("certificate"),
            "{words}"
        );
    }
    let plain = Queue::open(&format!("{database}?sslmode=disable")).await;
    assert!(plain.is_err(), "the server takes nothing but TLS");

    let queue = open(&by_name, &ours).await.expect("it is to be believed");
    let log = Log::new();
    let running = spawn(noting(&queue, &log));
    put(&queue, 1).await;
    let ran = || async { log.notes() == [1] };
    support::until("the job has run", ran).await;
    let mut client =
        support::client(&format!("{by_name}?sslmode=verify-full&sslrootcert={ours}")).await;
    let sql = "select count(*), count(*) filter (where not ssl) from pg_stat_ssl
        join pg_stat_activity using (pid) where datname = current_database()";
    let row = client.fetch_one(sql).await.expect("an answer");
    let (all, without): (i64, i64) = (row.get(0), row.get(1));
    running.end().await;
    assert!(
        all >= 3 && without == 0,
        "{without} of {all} connections without TLS"
    );
}
