//! Registries that require a credential.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Answer, Scripted, answer, hasty, in_own_process};
use futures::future::join_all;
use gantry_net::{AccessScope, Client, Credential, Credentials, Error, HttpRequest, RepeatPolicy};
use testkit::{TestLogin, TestRegistry};

const SCOPE: &str = "repository:a/b:pull";

fn access(server: &str) -> AccessScope {
    AccessScope { server: server.to_owned(), scope: SCOPE.to_owned() }
}

fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.into(), password: password.into() }
}

fn client(server: &str, credential: Option<Credential>) -> Client {
    let credentials = match credential {
        Some(credential) => Credentials::with_credential(server, credential),
        None => Credentials::with_credential("nobody", Credential::IdentityToken(String::new())),
    };
    hasty().credentials(credentials).build().unwrap()
}

/// A registry and its token server in one: `good` is the token that it takes.
fn guarded(token: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Scripted {
    let asked = AtomicUsize::new(0);
    Scripted::start(move |_, request| {
        if request.contains(" /token") {
            return token(asked.fetch_add(1, Ordering::SeqCst), request);
        }
        if request.contains("authorization: bearer good") {
            return answer("200 OK", "", "content");
        }
        let host = request.split("host: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let challenge = format!(
            "www-authenticate: Bearer realm=\"http://{host}/token\",service=\"the, registry\"\r\n"
        );
        answer("401 Who", &challenge, "")
    })
}

fn token_requests(server: &Scripted) -> Vec<String> {
    server.requests().into_iter().filter(|request| request.contains(" /token")).collect()
}

async fn get(client: &Client, server: &Scripted) -> Result<u16, Error> {
    let request = HttpRequest::get(&server.url("/v2/a/b")).unwrap().access(access(&server.host));
    Ok(client.send(&request, RepeatPolicy::Safe).await?.status().as_u16())
}

#[tokio::test]
async fn many_who_need_one_token_ask_for_it_once() {
    let server = guarded(|_, _| answer("200 OK", "", r#"{"token":"good","expires_in":300}"#));
    let client = client(&server.host, Some(password("me", "secret")));

    let statuses = join_all((0..20).map(|_| get(&client, &server))).await;

    assert!(statuses.iter().all(|status| matches!(status, Ok(200))), "{statuses:?}");
    let asked = token_requests(&server);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("service=the%2c+registry"), "{}", asked[0]);
    assert!(asked[0].contains("scope=repository%3aa%2fb%3apull"), "{}", asked[0]);
    // base64 of me:secret, in lower case as all of a request.
    assert!(asked[0].contains("authorization: basic bwu6c2vjcmv0"), "{}", asked[0]);
}

#[tokio::test]
async fn a_public_repository_needs_no_credential() {
    let server = guarded(|_, _| answer("200 OK", "", r#"{"access_token":"good"}"#));

    assert_eq!(get(&client("none", None), &server).await.unwrap(), 200);

    assert!(!token_requests(&server)[0].contains("authorization"));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let server = guarded(|_, request| {
        let is_right = request.starts_with("post") && request.contains("refresh_token=long-lived");
        let status = if is_right { "200 OK" } else { "400 Bad" };
        answer(status, "", r#"{"access_token":"good","refresh_token":"x"}"#)
    });
    let client = client(&server.host, Some(Credential::IdentityToken("long-lived".into())));

    assert_eq!(get(&client, &server).await.unwrap(), 200);
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_renewed() {
    let server = guarded(|number, _| {
        let token = if number == 0 { "stale" } else { "good" };
        answer("200 OK", "", format!(r#"{{"token":"{token}","expires_in":300}}"#))
    });
    let client = client(&server.host, Some(password("me", "secret")));

    let refused = get(&client, &server).await.unwrap_err();
    let status = get(&client, &server).await.unwrap();

    assert!(matches!(refused, Error::Unauthorized { .. }), "{refused}");
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_token_server_s_outage_is_waited_out_and_its_refusal_is_not() {
    let busy = guarded(|number, _| match number {
        0 => answer("503 Busy", "", ""),
        _ => answer("200 OK", "", r#"{"token":"good"}"#),
    });
    let refusing = guarded(|_, _| answer("401 No", "", r#"{"details":"wrong password"}"#));
    let nonsense = guarded(|_, _| answer("200 OK", "", r#"{"tokens":[]}"#));
    let me = || Some(password("me", "geheim"));

    let status = get(&client(&busy.host, me()), &busy).await.unwrap();
    let refused = get(&client(&refusing.host, me()), &refusing).await.unwrap_err();
    let none = get(&client(&nonsense.host, me()), &nonsense).await.unwrap_err();

    assert_eq!(status, 200);
    assert!(refused.to_string().contains("wrong password"), "{refused}");
    assert!(refused.to_string().contains("the credential of me"), "{refused}");
    assert!(!refused.to_string().contains("geheim"), "{refused}");
    assert_eq!(token_requests(&refusing).len(), 1);
    assert!(none.to_string().contains("returned no token"), "{none}");
}

#[tokio::test]
async fn a_real_registry_takes_the_right_password_and_no_other() {
    let login = TestLogin::new("carrier", "pigeon");
    let registry = TestRegistry::builder().login(login).tls().start();
    let get = async |credential: Option<Credential>| {
        let host = registry.host();
        let given = credential.unwrap_or(password("other", "x"));
        let server = if given.user() == "other" { "nobody" } else { host };
        let client = hasty()
            .ca_files(registry.ca_file())
            .credentials(Credentials::with_credential(server, given))
            .build()
            .unwrap();
        let request =
            HttpRequest::get(&format!("{}/v2/", registry.url())).unwrap().access(access(host));
        client.send(&request, RepeatPolicy::Safe).await.map(|response| response.status().as_u16())
    };

    assert_eq!(get(Some(password("carrier", "pigeon"))).await.unwrap(), 200);
    let wrong = get(Some(password("carrier", "dove"))).await.unwrap_err();
    let none = get(None).await.unwrap_err();

    assert!(wrong.to_string().contains("the credential of carrier"), "{wrong}");
    assert!(none.to_string().contains("docker login 127.0.0.1:"), "{none}");
}

#[test]
fn credentials_come_from_docker_s_files_and_helpers() {
    let registry = TestRegistry::builder().login(TestLogin::new("carrier", "pigeon")).start();
    let folder = tempfile::tempdir().unwrap();
    let (docker, tools) = (folder.path().join("docker"), folder.path().join("bin"));
    for one in [&docker, &tools] {
        std::fs::create_dir_all(one).unwrap();
    }
    let helper = tools.join("docker-credential-test");
    std::fs::write(
        &helper,
        "#!/bin/sh\ncat >&2\necho '{\"Username\":\"carrier\",\"Secret\":\"pigeon\"}'\n",
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let variables = [
        ("PATH", path.as_str()),
        ("DOCKER_CONFIG", docker.to_str().unwrap()),
        ("XDG_RUNTIME_DIR", "/nonexistent"),
        ("TEST_HOST", registry.host()),
    ];
    if !in_own_process("tokens::credentials_come_from_docker_s_files_and_helpers", &variables) {
        return;
    }

    let docker = std::path::PathBuf::from(std::env::var("DOCKER_CONFIG").unwrap());
    let host = std::env::var("TEST_HOST").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let get = || {
        let client = hasty().credentials(Credentials::from_system()).build().unwrap();
        let request =
            HttpRequest::get(&format!("http://{host}/v2/")).unwrap().access(access(&host));
        let sent = runtime.block_on(client.send(&request, RepeatPolicy::Safe));
        sent.map_or_else(|error| error.to_string(), |response| response.status().to_string())
    };
    let config = |text: &str| std::fs::write(docker.join("config.json"), text).unwrap();

    assert!(get().contains("no credential was found"), "{}", get());
    TestLogin::new("carrier", "pigeon").write_docker_config(&docker, &host);
    assert_eq!(get(), "200 OK");
    config(r#"{"credsStore":"test"}"#);
    assert_eq!(get(), "200 OK");
    config(&format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#));
    assert_eq!(get(), "200 OK");
    config(r#"{"credsStore":"absent"}"#);
    assert!(get().contains("docker-credential-absent could not be run"), "{}", get());
    config("{");
    assert!(get().contains("config.json"), "{}", get());
}

#[tokio::test]
async fn a_password_is_not_sent_without_tls_to_a_token_server_that_nobody_named() {
    let tokens = Scripted::start(|_, _| answer("200 OK", "", r#"{"token":"good"}"#));
    let stranger = tokens.host.replace("127.0.0.1", "0.0.0.0");
    let realm = format!("www-authenticate: Bearer realm=\"http://{stranger}/token\"\r\n");
    let registry = Scripted::start(move |_, request| match request {
        known if known.contains("authorization: bearer good") => answer("200 OK", "", "content"),
        _ => answer("401 Who", &realm, ""),
    });
    let credentials = [password("me", "secret"), Credential::IdentityToken("long-lived".into())];
    for credential in credentials.clone() {
        let error = get(&client(&registry.host, Some(credential)), &registry).await.unwrap_err();
        assert!(matches!(&error, Error::PlainHttp { server } if *server == stranger), "{error}");
    }
    assert_eq!(tokens.requests(), [""; 0]);
    // Without a credential there is nothing to lose, and where the user names the server it is asked.
    assert_eq!(get(&client("none", None), &registry).await.unwrap(), 200);
    for credential in credentials {
        let credentials = Credentials::with_credential(&registry.host, credential);
        let named = hasty().credentials(credentials).plain_http_host(&stranger).build().unwrap();
        assert_eq!(get(&named, &registry).await.unwrap(), 200);
    }
}

/// A server that redirects every request to another one.
fn redirecting(target: String) -> Scripted {
    Scripted::start(move |_, request| {
        let path = request.split(' ').nth(1).unwrap();
        answer("307 There", &format!("location: {target}{path}\r\n"), "")
    })
}

#[tokio::test]
async fn a_challenge_of_another_server_than_the_one_that_was_asked_gets_no_credential() {
    for challenge in ["Basic realm=\"x\"", "Bearer realm=\"http://HOST/token\",service=\"r\""] {
        let stranger = Scripted::start(move |_, request| {
            let host = request.split("host: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let challenge = challenge.replace("HOST", host);
            answer("401 Who", &format!("www-authenticate: {challenge}\r\n"), "")
        });
        let registry = redirecting(format!("http://{}", stranger.host));
        let client = client(&registry.host, Some(password("me", "secret")));

        let error = get(&client, &registry).await.unwrap_err();

        assert!(error.to_string().contains(&stranger.host), "{error}");
        assert!(error.to_string().contains("none was sent there"), "{error}");
        let seen = stranger.requests().concat();
        assert!(!seen.contains("authorization") && !seen.contains("/token"), "{seen}");
    }
}

#[tokio::test]
async fn a_token_server_s_redirect_does_not_carry_the_credential_away() {
    let stranger = Scripted::start(|_, _| answer("200 OK", "", r#"{"token":"good"}"#));
    let target = format!("http://{}/", stranger.host);
    for credential in [Credential::IdentityToken("long-lived".into()), password("me", "secret")] {
        let target = target.clone();
        let registry =
            guarded(move |_, _| answer("307 There", &format!("location: {target}\r\n"), ""));
        let client = client(&registry.host, Some(credential));

        assert!(get(&client, &registry).await.is_err());

        assert!(stranger.requests().is_empty(), "{:?}", stranger.requests());
    }
}

#[tokio::test]
async fn the_scope_of_the_challenge_is_asked_for() {
    let server = Scripted::start(|_, request| {
        if request.contains(" /token") {
            return answer("200 OK", "", r#"{"token":"good"}"#);
        }
        if request.contains("authorization: bearer good") {
            return answer("200 OK", "", "");
        }
        let host = request.split("host: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let challenge = format!(
            "www-authenticate: Bearer realm=\"http://{host}/token\",scope=\"repository:project/a/b:pull\"\r\n"
        );
        answer("401 Who", &challenge, "")
    });

    assert_eq!(get(&client("none", None), &server).await.unwrap(), 200);

    let asked = token_requests(&server);
    assert!(asked[0].contains("scope=repository%3aproject%2fa%2fb%3apull"), "{}", asked[0]);
}
