//! The disk of the database is full (F11).

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use macro_rules_attribute::apply;

use super::{Lab, Outcome};
use crate::harness::{eventually, palisade_test};

/// A file system of a few MiB, which is unmounted when the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a file system for the account of PostgreSQL. Returns `None` without the right to do so.
    fn mount(lab: &Lab, size: &str) -> Option<Self> {
        let dir = lab.dir.join("small-disk");
        fs::create_dir(&dir).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&dir)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let disk = Self(dir);
        let account = fs::metadata(lab.server.as_ref().unwrap().cluster_dir()).unwrap();
        chown(&disk.0, Some(account.uid()), Some(account.gid())).unwrap();
        Some(disk)
    }

    /// Writes a file until the file system has no space. Returns its path.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        let block = [0; 8192];
        while file.write_all(&block).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

fn path_literal(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[apply(palisade_test)]
async fn a_full_disk_rejects_writes_and_serves_reads_until_there_is_space() {
    let lab = Lab::start(1, &[]).await;
    let Some(disk) = SmallDisk::mount(&lab, "40m") else {
        // Without root, PostgreSQL itself reports a full disk.
        println!("no right to mount a file system: a trigger raises 53100");
        lab.execute(
            "create function public.full() returns trigger language plpgsql as
             $$ begin raise disk_full; end $$;
             create trigger full before insert on organizations for each row execute function public.full()",
        )
        .await;
        let document =
            "mutation { createOrganization(input: { name: \"n\" }) { organization { id } } }";
        assert_eq!(lab.query(document).await.code(), "UNAVAILABLE");
        lab.execute("drop trigger full on organizations").await;
        lab.query(document).await.data();
        lab.finish().await;
        return;
    };
    let space = path_literal(&disk.0);
    lab.execute(&format!("create tablespace small location {space}"))
        .await;
    lab.execute("alter table organizations set tablespace small")
        .await;
    lab.execute("alter table audit_logs set tablespace small")
        .await;
    let write = async |number: usize| {
        let name = format!("n{number} {}", "x".repeat(80));
        let document = format!(
            "mutation {{ createOrganization(input: {{ name: \"{name}\" }}) {{ organization {{ id }} userErrors {{ code }} }} }}"
        );
        lab.query(&document).await
    };
    write(0).await.data();
    let filler = disk.fill();
    // The first writes still fit into the last pages of the tables.
    let mut written = 0;
    let mut number = 1;
    eventually("a write fails", async || {
        number += 1;
        match write(number).await {
            Outcome::Data(data) => {
                let errors = &data["createOrganization"]["userErrors"];
                assert_eq!(*errors, serde_json::json!([]));
                written += 1;
                false
            }
            failed => {
                assert_eq!(failed.code(), "UNAVAILABLE", "{failed:?}");
                true
            }
        }
    })
    .await;
    let read = lab.query("{ organizations { totalCount } }").await.data();
    assert_eq!(read["organizations"]["totalCount"], 1 + written);
    assert!(lab.is_ready().await);
    fs::remove_file(filler).unwrap();
    write(number + 1).await.data();
    let read = lab.query("{ organizations { totalCount } }").await.data();
    assert_eq!(read["organizations"]["totalCount"], 2 + written);
    let audited = lab
        .number("select count(*) from audit_logs where action = 'organization.created'")
        .await;
    assert_eq!(audited, 2 + written);
    lab.execute("alter table organizations set tablespace pg_default")
        .await;
    lab.execute("alter table audit_logs set tablespace pg_default")
        .await;
    lab.execute("drop tablespace small").await;
    drop(disk);
    lab.finish().await;
}
