//! Programs, directories, accounts and paths.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
};

use palisade::embedded::{self, Embedded, Error, Options};
use rustix::process::geteuid;

use super::{
    PALISADE, Service, account, ask, lock_is_free, options, psql, refused, scratch, start,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_given_directory_without_programs_is_named() {
    let dir = scratch("no-programs").await;
    let given = Options {
        bin_dir: Some(dir.to_path_buf()),
        ..options(&dir.join("data"))
    };
    let error = Embedded::start(&given).await.unwrap_err();
    assert!(matches!(error, Error::BinDir { .. }), "{error:?}");
    let text = error.to_string();
    let named = text.contains(&dir.display().to_string()) && text.contains("no `postgres`");
    assert!(named, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_other_content_is_refused_untouched() {
    let root = scratch("not-ours").await;
    File::create(root.join("precious"))
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let before = root.metadata().unwrap();
    let error = refused(&root).await;
    assert!(matches!(error, Error::NotOurs { .. }), "{error:?}");
    let after = root.metadata().unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
    assert_eq!(root.read_dir().unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_entered_is_named() {
    let dir = scratch("closed").await;
    let closed = dir.join("closed");
    fs::create_dir(&closed).unwrap();
    // Closed to the owner, too, unless that is root.
    let mode = if geteuid().is_root() { 0o700 } else { 0 };
    fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
    let root = closed.join("data");
    let reachable = embedded::reachable(&root, None).await;
    let error = refused(&root).await;
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let text = error.to_string();
    assert!(text.contains(&closed.display().to_string()), "{text}");
    if geteuid().is_root() {
        assert!(
            matches!(error, Error::Unreachable { dir, .. } if dir == closed),
            "{text}"
        );
        assert!(text.contains("mode 0700, owner 0"), "{text}");
        assert!(reachable.is_err());
    } else {
        assert!(matches!(error, Error::Io { .. }), "{text}");
    }
    assert!(!root.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_runs_it_as_another_account_and_everyone_else_as_themselves() {
    let dir = scratch("accounts").await;
    let as_user = |user: &str, name: &str| Options {
        user: Some(user.to_owned()),
        ..options(&dir.join(name))
    };
    let server = Embedded::start(&as_user("nobody", "nobody")).await.unwrap();
    let owner = server.data_dir().metadata().unwrap().uid();
    server.stop().await.unwrap();
    if !geteuid().is_root() {
        assert_eq!(owner, geteuid().as_raw());
        return;
    }
    assert_ne!(owner, 0);
    for user in ["root", "no-such-account", "65534"] {
        let error = Embedded::start(&as_user(user, "wrong")).await.unwrap_err();
        assert!(matches!(error, Error::NoAccount(_)), "{user}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_needs_no_help() {
    let dir = scratch("ordinary").await;
    // The build directory may be closed to the account. A copy of another process's making: a
    // program that is open for writing anywhere, as in a child of another test, cannot be run.
    let program = dir.join("palisade");
    assert!(
        Command::new("cp")
            .arg(PALISADE)
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    let root = dir.join("new/data");
    let mut command = Service::command(&program, &root);
    command.current_dir("/").env("HOME", &*dir);
    if let Some((uid, gid)) = account() {
        chown(&*dir, Some(uid), Some(gid)).unwrap();
        command.uid(uid).gid(gid);
    }
    let mut service = Service::spawn(command);
    let greeting = service.greeting().await;
    assert!(greeting.contains(" started, "), "{greeting}");
    service.stop().await;
    fs::remove_file(program).unwrap();
    assert!(lock_is_free(&root));
}

/// What a server put into the system's temporary directory for want of a short path.
struct SocketDir(PathBuf);

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_path_gets_a_short_socket() {
    let dir = scratch("long").await;
    let root = dir.join("x".repeat(110));
    let server = start(&root).await;
    let SocketDir(socket_dir) = &SocketDir(server.socket_dir().to_owned());
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(ask(&server, "select 'here'").await, "here");
    assert!(start(&root).await.attached());
    server.stop().await.unwrap();

    fs::set_permissions(socket_dir, Permissions::from_mode(0o755)).unwrap();
    let error = refused(&root).await;
    assert!(
        matches!(&error, Error::NotOurs { dir, .. } if dir == socket_dir),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_may_hold_anything() {
    let dir = scratch("odd").await;
    // A client splits the list of hosts at the comma.
    let server = start(&dir.join(r#"a b,"c"='%é"#)).await;
    let SocketDir(socket_dir) = &SocketDir(server.socket_dir().to_owned());
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(psql(&server, "select 'here'"), "here");
    server.stop().await.unwrap();

    let root = dir.join(r#"a b"c"='%é"#);
    let server = start(&root).await;
    assert_eq!(server.socket_dir(), root.join("s"));
    assert_eq!(psql(&server, "select 'here'"), "here");
    assert_eq!(ask(&server, "select 'here'").await, "here");
    server.stop().await.unwrap();
}
