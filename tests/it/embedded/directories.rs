//! The directories and paths that a server uses, and the account that runs the server.

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
    DevProcess, PALISADE, account, lock_is_free, options, psql, query, start, start_error, test_dir,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_error_names_a_given_directory_without_programs() {
    let dir = test_dir("no-programs").await;
    let given = Options {
        bin_dir: Some(dir.to_path_buf()),
        ..options(&dir.join("data"))
    };
    let error = Embedded::start(&given).await.unwrap_err();
    assert!(matches!(error, Error::BinDir { .. }), "{error:?}");
    let message = error.to_string();
    let is_named =
        message.contains(&dir.display().to_string()) && message.contains("no `postgres`");
    assert!(is_named, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_other_content_is_rejected_and_not_changed() {
    let root = test_dir("not-ours").await;
    File::create(root.join("precious"))
        .unwrap()
        .write_all(b"x")
        .unwrap();
    let before = root.metadata().unwrap();
    let error = start_error(&root).await;
    assert!(matches!(error, Error::NotOurs { .. }), "{error:?}");
    let after = root.metadata().unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
    assert_eq!(root.read_dir().unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_names_a_directory_that_cannot_be_entered() {
    let dir = test_dir("closed").await;
    let closed = dir.join("closed");
    fs::create_dir(&closed).unwrap();
    // If root runs the test, only root may enter the directory. Otherwise, not even its owner may.
    let mode = if geteuid().is_root() { 0o700 } else { 0 };
    fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
    let root = closed.join("data");
    let reachable = embedded::check_reachable(&root, None).await;
    let error = start_error(&root).await;
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let message = error.to_string();
    assert!(message.contains(&closed.display().to_string()), "{message}");
    if geteuid().is_root() {
        assert!(
            matches!(error, Error::Unreachable { dir, .. } if dir == closed),
            "{message}"
        );
        assert!(message.contains("mode 0700, owner 0"), "{message}");
        assert!(reachable.is_err());
    } else {
        assert!(matches!(error, Error::Io { .. }), "{message}");
    }
    assert!(!root.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_runs_the_server_as_another_account_and_others_as_themselves() {
    let dir = test_dir("accounts").await;
    let as_user = |user: &str, name: &str| Options {
        user: Some(user.to_owned()),
        ..options(&dir.join(name))
    };
    let server = Embedded::start(&as_user("nobody", "nobody")).await.unwrap();
    let owner = server.cluster_dir().metadata().unwrap().uid();
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
async fn dev_runs_without_root() {
    let dir = test_dir("ordinary").await;
    // The account may not be able to enter the build directory, so it runs a copy of the program. `cp` writes the copy,
    // because a program cannot run while a process has it open for writing. If this process wrote the copy, a child
    // of another test could inherit the open file.
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
    let mut command = DevProcess::command(&program, &root);
    command.current_dir("/").env("HOME", &*dir);
    if let Some((uid, gid)) = account() {
        chown(&*dir, Some(uid), Some(gid)).unwrap();
        command.uid(uid).gid(gid);
    }
    let mut process = DevProcess::spawn(command);
    let first_line = process.first_line().await;
    assert!(first_line.contains(" started, "), "{first_line}");
    process.stop().await;
    fs::remove_file(program).unwrap();
    assert!(lock_is_free(&root));
}

/// A socket's directory in `/tmp`. It is removed when this value is dropped.
struct SocketDir(PathBuf);

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_with_a_long_path_has_its_socket_in_tmp() {
    let dir = test_dir("long").await;
    let root = dir.join("x".repeat(110));
    let server = start(&root).await;
    let SocketDir(socket_dir) = &SocketDir(server.socket_dir().to_owned());
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(query(&server, "select 'here'").await, "here");
    assert!(start(&root).await.is_attached());
    server.stop().await.unwrap();

    fs::set_permissions(socket_dir, Permissions::from_mode(0o755)).unwrap();
    let error = start_error(&root).await;
    assert!(
        matches!(&error, Error::NotOurs { dir, .. } if dir == socket_dir),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_a_data_directory_may_have_any_characters() {
    let dir = test_dir("odd").await;
    // PostgreSQL clients split the host at each comma, so the path contains one.
    let server = start(&dir.join(r#"a b,"c"='%é"#)).await;
    let SocketDir(socket_dir) = &SocketDir(server.socket_dir().to_owned());
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(psql(&server, "select 'here'"), "here");
    server.stop().await.unwrap();

    let root = dir.join(r#"a b"c"='%é"#);
    let server = start(&root).await;
    assert_eq!(server.socket_dir(), root.join("s"));
    assert_eq!(psql(&server, "select 'here'"), "here");
    assert_eq!(query(&server, "select 'here'").await, "here");
    server.stop().await.unwrap();
}
