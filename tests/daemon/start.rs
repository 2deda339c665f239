//! Starts that cannot be: one clear sentence, and an exit code that says what to look at.

use std::process::Command;

use serde_json::Value;

use crate::process::Site;

fn verb(words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magnumd"));
    let output = command.args(words).env_remove("RUST_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The last line: what the operator reads.
fn last(log: &str) -> &str {
    log.lines().last().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_in_use_by_another_is_left_alone() {
    let site = Site::new().await;
    let _first = site.start(site.command()).await;
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 75, "{log}");
    assert!(last(&log).contains("is in use by another magnumd; stop it first"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_a_lost_key_and_a_newer_state_are_told_apart() {
    let site = Site::new().await;
    let mut magnumd = site.start(site.command()).await;
    magnumd.signal(rustix::process::Signal::TERM);
    assert_eq!(magnumd.wait(), 0);
    let (state, key) = (site.state().join("magnumd.redb"), site.state().join("sealing.key"));
    let before = std::fs::read(&state).unwrap();
    let right = std::fs::read(&key).unwrap();

    std::fs::write(&key, [7; 32]).unwrap();
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 78, "{log}");
    assert!(last(&log).contains("the sealing key does not fit"), "{log}");

    std::fs::remove_file(&key).unwrap();
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 78, "{log}");
    assert!(last(&log).contains("restore the key"), "{log}");
    assert!(!key.exists(), "no other key was made");

    std::fs::write(&key, right).unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let database = redb::Database::open(&state).unwrap();
    let transaction = database.begin_write().unwrap();
    let newer = 99_u64.to_le_bytes();
    transaction.open_table(meta).unwrap().insert("schema", newer.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 65, "{log}");
    assert!(last(&log).contains("written by a newer magnumd (schema 99)"), "{log}");

    std::fs::write(&state, before).unwrap();
    site.start(site.command()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_wrong_configuration_are_named() {
    let site = Site::new().await;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 69, "{log}");
    assert!(last(&log).contains("api.listen = 127.0.0.1:"), "{log}");

    site.write(&site.with("[api]", "listn = 'x'"));
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 78, "{log}");
    assert!(
        last(&log)
            .contains("magnumd.toml:10: api.listn: unknown key 'listn'; did you mean 'listen'?"),
        "{log}"
    );

    site.write(&site.with("[api.tls]", "cert = 'nowhere.crt'\nkey = 'nowhere.key'"));
    let (code, log) = site.fails(site.command());
    assert_eq!(code, 78, "{log}");
    assert!(last(&log).contains("api.tls: ") && last(&log).contains("nowhere.crt"), "{log}");
}

/// Regression: `magnumd: /nowhere.pem: No such file or directory` left the operator to search the
/// configuration for the option that names the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_named_with_its_option() {
    let site = Site::new().await;
    for (section, line, said) in [
        ("[drivers]", "openstack_ca_file = '/nowhere'", "drivers.openstack_ca_file: /nowhere: No"),
        ("[drivers]", "dir = '/nowhere'", "drivers.dir: /nowhere: No such file"),
        ("[clients.default]", "ca_file = '/nowhere'", "clients.default.ca_file: /nowhere: "),
        ("[clients.keystone]", "ca_file = '/nowhere'", "clients.keystone.ca_file: /nowhere: "),
        ("[clients.heat]", "ca_file = '/nowhere'", "clients.heat.ca_file: /nowhere: "),
        ("[policy]", "file = '/nowhere'", "/nowhere: there is no such file; policy.file names it"),
        ("[storage]", "sealing_key_file = '/nowhere'", "storage.sealing_key_file names it"),
        ("[api.tls]", "cert = '/nowhere'\nkey = '/nowhere'", "api.tls: /nowhere: No such file"),
        ("[keystone]", "password_file = '/nowhere'", "keystone.password"),
        ("[trust]", "admin_password_file = '/nowhere'", "trust.admin_password"),
    ] {
        site.write(&site.with(section, line));
        let (code, log) = site.fails(site.command());
        assert_eq!(code, 78, "{section} {line}: {log}");
        assert!(last(&log).contains(said), "{section} {line}: {log}");
    }
    // No cloud is asked before that is clear.
    site.write(&site.with("[clients.heat]", "ca_file = '/nowhere'"));
    let config = site.config().display().to_string();
    let (code, shown, log) = verb(&["preflight", "--config", &config]);
    assert!(log.contains("clients.heat.ca_file: /nowhere: "), "{code}: {shown}{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_and_variables_count_before_the_file() {
    let site = Site::new().await;
    let config = site.config().display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_magnumd"));
    command.args(["config", "show", "--origin", "--config", &config, "--set", "cluster.lanes=3"]);
    let output = command.env("MAGNUMD_API_MAX_LIMIT", "5").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = |key: &str| {
        let start = format!("{key} = ");
        let line =
            shown.lines().find(|l| l.starts_with(&start)).unwrap_or_else(|| panic!("{shown}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("cluster.lanes"), "cluster.lanes = 3 # --set");
    assert_eq!(line("api.max_limit"), "api.max_limit = 5 # MAGNUMD_API_MAX_LIMIT");
    assert_eq!(line("keystone.password"), format!("keystone.password = \"(set)\" # {config}:4"));
    assert_eq!(line("ca.rsa_bits"), "ca.rsa_bits = 2048 # default");
    assert!(!shown.contains("secret"), "{shown}");

    let (code, shown, _) = verb(&["config", "show", "--output", "json", "--config", &config]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, &shown["keystone.username"]), (0, &Value::from("magnum")));
    assert_eq!(shown["keystone.password"], "(set)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_magnum_conf_is_served_as_it_is() {
    let site = Site::new().await;
    let port = site.port;
    let text = format!(
        "[DEFAULT]\nstate_path = {state}\n[api]\nhost = 127.0.0.1\nport = {port}\nworkers = 2\n\
         [database]\nconnection = mysql://magnum:hidden@192.0.2.1/magnum\n\
         [keystone_auth]\nauth_url = {identity}\nusername = magnum\npassword = secret\n\
         [trust]\ntrustee_domain_name = magnum\ntrustee_domain_admin_name = magnum_domain_admin\n\
         trustee_domain_admin_password = secret\n\
         [discovery]\nlisten = 127.0.0.1:{discovery}\n\
         advertise_url = http://127.0.0.1:{discovery}\n\
         [bootstrap]\nlisten = 127.0.0.1:{bootstrap}\n\
         advertise_url = https://127.0.0.1:{bootstrap}\n",
        state = site.state().display(),
        identity = site.cloud.identity_url(),
        discovery = port + 1,
        bootstrap = port + 2,
    );
    let conf = site.folder().join("magnum.conf");
    std::fs::write(&conf, &text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_magnumd"));
    command.args(["serve", "--config"]).arg(&conf).env_remove("RUST_LOG");
    let magnumd = site.start(command).await;
    let token = site.token().await;
    assert_eq!(magnumd.get("/v1/clusters", &token).await.0, 200);
    let log = magnumd.log();
    assert!(log.contains("magnum.conf:8: [database] connection is ignored"), "{log}");
    assert_eq!(log.matches("is ignored").count(), 1, "{log}");
    drop(magnumd);

    let made = site.folder().join("imported.toml");
    let words = [conf.display().to_string(), made.display().to_string()];
    let (code, _, said) = verb(&["config", "import", &words[0], "--to", &words[1]]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("[database] connection is ignored") && !said.contains("hidden"),
        "{said}"
    );
    let (code, said, _) = verb(&["check", "--config", &words[1]]);
    assert_eq!(code, 0, "{said}");
    let (code, _, said) = verb(&["config", "import", &words[0], "--to", &words[1]]);
    assert_ne!(code, 0, "nothing is replaced: {said}");
}

/// It starts all the same: what is on record can be read, and Keystone is one for all regions.
#[tokio::test(flavor = "multi_thread")]
async fn regions_between_which_it_would_have_to_guess_are_said() {
    let mut site = Site::new().await;
    site.cloud.add_region("RegionTwo");
    let magnumd = site.start(site.command()).await;
    magnumd.says("the catalogue has Heat in the regions RegionOne and RegionTwo").await;
    magnumd.says("the catalogue has Neutron in the regions").await;
    assert!(!magnumd.log().contains("the catalogue has Keystone"), "{}", magnumd.log());
    let token = site.token().await;
    assert_eq!(magnumd.get("/v1/clusters", &token).await.0, 200);
    drop(magnumd);
    site.configure("[clients.default]", "region = 'RegionOne'");
    let magnumd = site.start(site.command()).await;
    magnumd.says("INFO").await;
    let token = site.token().await;
    let made = magnumd.add_template(&token, "k8s", &serde_json::json!({})).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert!(!magnumd.log().contains("in the regions"), "{}", magnumd.log());
}
