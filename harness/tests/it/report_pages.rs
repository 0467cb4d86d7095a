//! The pages: what is on them, that they need nothing else, and, in a headless Chromium where one
//! is installed, that nothing on them overlaps, on a desk and on a phone.

use crate::support::peers;
use std::process::Command;

use crate::support::cli::{Sandbox, bundled, output};
use crate::support::crash::{OLD_OR_NEW, crash, replacing, work};

/// The page of a replay with a resize by each strategy.
fn replay_page(sandbox: &Sandbox) -> String {
    let trace = bundled("sqlite-wal.ubdtrace");
    let resizes = ["100:32M:headroom", "400:64M:rebuild", "800:96M:reflow"];
    let mut args = vec![
        "replay",
        trace.to_str().unwrap(),
        "--memory",
        "--past-end",
        "wrap",
    ];
    for resize in &resizes {
        args.extend(["--resize-at", resize]);
    }
    args.extend(["--size", "16M", "--report", "@replay.html"]);
    sandbox.succeeds(&args);
    String::from_utf8(sandbox.read("replay.html")).unwrap()
}

/// The page of what the fuzzer finds in a driver with defects.
fn fuzz_page(sandbox: &Sandbox) -> String {
    let args = [
        "fuzz",
        "--driver",
        "linux-6.12",
        "--cases",
        "100",
        "--out",
        "@found",
    ];
    let output = sandbox.run(&[&args[..], &["--report", "@fuzz.html"]].concat());
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(sandbox.read("fuzz.html")).unwrap()
}

/// The page of what `ubdlab crash` finds in a rename before its data, and that of the finding.
fn crash_pages(sandbox: &Sandbox) -> [String; 2] {
    let script = replacing(false, true);
    let more = ["--out", "found", "--report", "crash.html"];
    let done = crash(sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let args = ["crash", "--repro", "found/finding-1.json"];
    let args = [&args[..], &["--report", "finding.html"]].concat();
    assert_eq!(sandbox.run(&args).status.code(), Some(1));
    ["crash.html", "finding.html"].map(|name| String::from_utf8(sandbox.read(name)).unwrap())
}

/// A page is one file: it runs nothing and fetches nothing.
fn stands_alone(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>"));
    for needed in ["<script", "http:", "https:", "url(", "@import", "src="] {
        assert!(!page.contains(needed), "{needed}");
    }
    for wanted in [
        "prefers-color-scheme: dark",
        "@media print",
        "width=device-width",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn the_page_of_a_replay_says_how_it_went_and_shows_each_resize() {
    let sandbox = Sandbox::new();
    let page = replay_page(&sandbox);
    stands_alone(&page);
    for part in [
        "id=\"verdict\"",
        "Nothing was lost",
        "id=\"resizes\"",
        "by headroom",
        "by rebuild",
        "by reflow",
        "id=\"requests\"",
        "id=\"plot-writes\"",
        "id=\"latency\"",
        "id=\"plot-latency\"",
        "id=\"plot-histogram\"",
        "id=\"trace\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Each resize before and after, the reflow also on its way.
    assert_eq!(
        page.matches("<span class=\"name\">before</span>").count(),
        3
    );
    assert_eq!(page.matches("<span class=\"name\">after</span>").count(), 3);
    assert!(page.contains("<span class=\"name\">during</span>"));
    assert!(page.contains("class=\"frontier\""));
}

/// What was asked for and never moved is no rate.
#[test]
fn the_page_of_a_replay_of_stamps_claims_no_rate_of_data() {
    let sandbox = Sandbox::with_device();
    for (more, claims) in [(&[][..], false), (&["--stamps-only"], true)] {
        let args = ["replay", "@trace", "--memory", "--report", "@page.html"];
        sandbox.succeeds(&[&args, more].concat());
        let page = String::from_utf8(sandbox.read("page.html")).unwrap();
        let rate = page.split_once("data a second").unwrap().1;
        let rate = rate.split_once("read").unwrap().0;
        assert_eq!(rate.contains("stamps only"), claims, "{rate}");
        assert_eq!(rate.contains('B'), !claims, "{rate}");
    }
}

#[test]
fn the_page_of_a_campaign_tells_each_finding_from_its_requests_to_the_wrong_sector() {
    let sandbox = Sandbox::new();
    let page = fuzz_page(&sandbox);
    stands_alone(&page);
    let found = page.matches("<section id=\"finding-").count();
    assert!(found > 1, "{found}");
    assert_eq!(page.matches("<li class=\"found\">").count(), found);
    for part in [
        "This driver loses data",
        "class=\"crash\"",
        "class=\"host changes\"",
        "read from: /disk/",
        "class=\"wrong\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("ubdlab fuzz --repro ").count(), found);
    // One of the findings again, on a page of its own.
    let case = std::fs::read_dir(sandbox.path("found")).unwrap().next();
    let case = case.unwrap().unwrap().path();
    let args = [
        "fuzz",
        "--repro",
        case.to_str().unwrap(),
        "--report",
        "@one.html",
    ];
    assert_eq!(sandbox.run(&args).status.code(), Some(1));
    let one = String::from_utf8(sandbox.read("one.html")).unwrap();
    stands_alone(&one);
    assert!(one.contains("<li class=\"found\">"));
    assert!(one.contains("the wrong sector</span>"));
}

#[test]
fn the_page_of_a_crash_tells_what_was_lost_and_how_to_see_it_again() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let [page, finding] = crash_pages(&sandbox);
    for page in [&page, &finding] {
        stands_alone(page);
        for part in [
            "id=\"verdict\"",
            "mv work/f.new work/f",
            "id=\"finding-1\"",
            "<span class=\"tag\">LOST</span> 1: write f 0+3</li>",
            "<span class=\"tag\">survived</span> 2: rename f.new to f</li>",
            "the power is cut",
            "before: sync directory .",
            "the check ended with status 7",
            "<pre>neither\n</pre>",
            "<pre>ubdlab crash --repro found/finding-1.json</pre>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
    for part in [
        "id=\"moments\"",
        "<pre>ubdlab crash --dir work --check ",
        "not pass the check</h1>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn the_page_of_a_crash_says_first_what_fails_without_one() {
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let more = ["--report", "crash.html"];
    let done = crash(
        &sandbox,
        OLD_OR_NEW,
        &more,
        &["sh", "-c", "echo \"<b>\" >work/f"],
    );
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let page = String::from_utf8(sandbox.read("crash.html")).unwrap();
    stands_alone(&page);
    assert!(
        page.contains("The check does not pass without a crash"),
        "{page}"
    );
    assert!(page.contains("<pre>&lt;b&gt;\nneither\n</pre>"), "{page}");
    // All is well.
    let script = replacing(true, true);
    let done = crash(&sandbox, OLD_OR_NEW, &more, &["sh", "-c", &script]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let page = String::from_utf8(sandbox.read("crash.html")).unwrap();
    // As many moments as the terminal says.
    let said = String::from_utf8(done.stdout).unwrap();
    let moments = said.lines().find_map(|line| {
        let (_, rest) = line.split_once(" images at ")?;
        Some(rest.split_once(" moments")?.0.to_owned())
    });
    let at = format!("At {} moments of what the command did", moments.unwrap());
    assert!(page.contains(&at), "{at}: {page}");
    stands_alone(&page);
    assert!(
        page.contains("What the crashes have left passes the check"),
        "{page}"
    );
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let sandbox = Sandbox::new();
    let trace = bundled("sqlite-wal.ubdtrace");
    let args = [
        "replay",
        trace.to_str().unwrap(),
        "--memory",
        "--report",
        "@no/such.html",
    ];
    let output = sandbox.run(&args);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        sandbox.text(&output.stderr),
        "ubdlab: @no/such.html: writing: there is no directory @no\n"
    );
}

/// What looks at the page from within: the figures of each part, and what overlaps. Appended to
/// a copy of the page.
const LOOK: &str = r#"
<script>
addEventListener("load", () => {
  const faults = [];
  const box = e => e.getBoundingClientRect();
  const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
  const check = (name, parts) => {
    for (let i = 0; i < parts.length; i++) for (let j = 0; j < i; j++)
      if (!apart(box(parts[i]), box(parts[j])))
        faults.push(name + ": " + parts[j].textContent.slice(0, 30) + " / " + parts[i].textContent.slice(0, 30));
  };
  const main = document.querySelector("main");
  check("parts", [...main.children]);
  for (const section of document.querySelectorAll("section")) check("section", [...section.children]);
  for (const chart of document.querySelectorAll(".chart")) {
    check("y", [...chart.querySelectorAll(".y span")]);
    check("x", [...chart.querySelectorAll(".x span")]);
    check("chart", [...chart.children]);
  }
  for (const part of document.querySelectorAll("section, .verdict, .chart, .strip svg, .plot svg"))
    if (box(part).width < 40 || box(part).height < 8) faults.push("too small: " + part.tagName + " " + box(part).width);
  if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
  const looked = document.createElement("pre");
  looked.id = "looked";
  looked.textContent = JSON.stringify({ width: innerWidth, faults });
  document.body.replaceChildren(looked);
});
</script>
"#;

#[test]
fn nothing_overlaps_on_a_desk_or_on_a_phone() {
    let Some(chromium) = peers::optional_peer("chromium") else {
        return;
    };
    let Some(sandbox) = work(&[("f", "old")]) else {
        return;
    };
    let [crash, finding] = crash_pages(&sandbox);
    for (name, page) in [
        ("replay", replay_page(&sandbox)),
        ("fuzz", fuzz_page(&sandbox)),
        ("crash", crash),
        ("finding", finding),
    ] {
        let looked = format!("{name}-looked.html");
        sandbox.write(&looked, page + LOOK);
        for width in [1100, 500] {
            let mut command = Command::new(&chromium);
            command
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
                .args(["--disable-dev-shm-usage", "--virtual-time-budget=10000"])
                .arg(format!(
                    "--user-data-dir={}",
                    sandbox.path("profile").display()
                ))
                .arg(format!("--window-size={width},900"))
                .arg(format!("file://{}", sandbox.path(&looked).display()));
            let dom = String::from_utf8(output(&mut command).stdout).unwrap();
            let (_, rest) = dom.split_once("id=\"looked\">").expect(&dom);
            let (found, _) = rest.split_once("</pre>").unwrap();
            let found = found
                .replace("&gt;", ">")
                .replace("&lt;", "<")
                .replace("&amp;", "&");
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            assert_eq!(found["faults"], serde_json::json!([]), "{name}, {found}");
        }
    }
}
