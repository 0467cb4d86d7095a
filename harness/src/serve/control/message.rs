//! What goes over a control socket, as JSON.

use driver::resize::Strategy;
use serde::{Deserialize, Serialize};
use userhelper::planner::Plan;

use super::super::record::RecordingStatus;
use super::super::status::{DeviceStatus, ResizeStatus};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the device is doing.
    Status {},
    /// Another size.
    Resize {
        /// The new size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
        /// In its place, by how much.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change_bytes: Option<i64>,
        /// How; without it the cheapest way is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strategy: Option<WishedStrategy>,
        /// It may become smaller, as long as no data lies past the new end.
        #[serde(default, skip_serializing_if = "is_false")]
        shrink: bool,
        /// Also where data lies there, which is lost.
        #[serde(default, skip_serializing_if = "is_false")]
        lose_data: bool,
        /// Answer when it is planned, rather than when it has ended.
        #[serde(default, skip_serializing_if = "is_false")]
        detach: bool,
    },
    /// What a resize would be; nothing is done. The fields are those of a resize.
    Plan {
        /// The new size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
        /// In its place, by how much.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change_bytes: Option<i64>,
        /// How; without it the cheapest way is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strategy: Option<WishedStrategy>,
        /// It may become smaller, as long as no data lies past the new end.
        #[serde(default, skip_serializing_if = "is_false")]
        shrink: bool,
        /// Also where data lies there, which would be lost.
        #[serde(default, skip_serializing_if = "is_false")]
        lose_data: bool,
    },
    /// Write down what clients ask for.
    Record {
        /// Into this file from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// No more.
        #[serde(default, skip_serializing_if = "is_false")]
        off: bool,
    },
    /// Make everything durable.
    Flush {},
    /// End the server.
    Stop {},
}

impl Request {
    /// The request that a line is.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub(super) fn parse(line: &[u8]) -> Result<Request, String> {
        // A list of values without their names would do for serde.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err("not a request: expected a JSON object".into());
        }
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A strategy that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WishedStrategy {
    /// See [`Strategy::Headroom`].
    Headroom,
    /// See [`Strategy::Rebuild`].
    Rebuild,
    /// See [`Strategy::Reflow`].
    Reflow,
}

impl From<WishedStrategy> for Strategy {
    fn from(wished: WishedStrategy) -> Strategy {
        match wished {
            WishedStrategy::Headroom => Strategy::Headroom,
            WishedStrategy::Rebuild => Strategy::Rebuild,
            WishedStrategy::Reflow => Strategy::Reflow,
        }
    }
}

impl From<Strategy> for WishedStrategy {
    fn from(strategy: Strategy) -> WishedStrategy {
        match strategy {
            Strategy::Headroom => WishedStrategy::Headroom,
            Strategy::Rebuild => WishedStrategy::Rebuild,
            Strategy::Reflow => WishedStrategy::Reflow,
        }
    }
}

/// What the server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How the device is doing.
    Status(Box<DeviceStatus>),
    /// How far a resize is; more answers follow.
    Resizing(ResizeStatus),
    /// A resize has ended well.
    Resized(ResizeAnswer),
    /// A resize is planned and goes on.
    Detached(ResizeStatus),
    /// What a resize would be.
    Planned(ResizePlan),
    /// A recording has begun.
    Recording(RecordingStatus),
    /// A recording has ended.
    Recorded(RecordingStatus),
    /// Everything is durable.
    Flushed(bool),
    /// The device is closed.
    Stopped(bool),
    /// Something has failed.
    Error(String),
}

/// What a resize came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeAnswer {
    /// How.
    pub strategy: String,
    /// The size before.
    pub old_size_bytes: u64,
    /// The size now.
    pub new_size_bytes: u64,
    /// Bytes of data that were moved.
    pub moved_bytes: u64,
    /// What it cost beside time and space: a sentence each.
    pub notes: Vec<String>,
}

/// What a resize would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizePlan {
    /// How.
    pub strategy: String,
    /// Why so, and not cheaper: a sentence each. None if the strategy was asked for.
    pub reasons: Vec<String>,
    /// What it costs beside time and space: a sentence each.
    pub notes: Vec<String>,
    /// The size now.
    pub old_size_bytes: u64,
    /// The size then.
    pub new_size_bytes: u64,
    /// Bytes of data that are moved at most.
    pub to_move_bytes: u64,
    /// Space on the host that is needed meanwhile.
    pub space_needed_bytes: u64,
    /// How the file is laid out then; `None` of a raw disk.
    pub layout: Option<PlannedLayout>,
}

/// How a file is laid out after a resize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLayout {
    /// Its alignment.
    pub alignment: u32,
    /// Where its data begins.
    pub data_offset_bytes: u64,
    /// The largest size to which the device grows after that without its data moving.
    pub grows_to_bytes: u64,
}

impl From<&Plan> for ResizePlan {
    fn from(plan: &Plan) -> ResizePlan {
        ResizePlan {
            strategy: plan.strategy.to_string(),
            reasons: plan.reasons.clone(),
            notes: plan.notes.clone(),
            old_size_bytes: plan.old_size.0,
            new_size_bytes: plan.new_size.0,
            to_move_bytes: plan.to_move.0,
            space_needed_bytes: plan.space_needed.0,
            layout: plan.new_geometry.map(|geometry| PlannedLayout {
                alignment: geometry.alignment,
                data_offset_bytes: geometry.data_offset.0,
                grows_to_bytes: geometry.headroom().0,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Request, String> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert_eq!(parsed(r#"{"request":"status"}"#), Ok(Request::Status {}));
        for (text, said) in [
            (r#"{"request":"status","x":1}"#, "unknown field `x`"),
            (
                r#"{"request":"resize","sise_bytes":1}"#,
                "unknown field `sise_bytes`",
            ),
            (r#"{"request":"reboot"}"#, "unknown variant `reboot`"),
            (r#"{"size_bytes":1}"#, "missing field `request`"),
            (r#"{"request":"resize","size_bytes":-1}"#, "invalid value"),
            (
                r#"{"request":"resize","strategy":"magic"}"#,
                "unknown variant `magic`",
            ),
            (r#"["status"]"#, "expected a JSON object"),
            (r#"{"request":"status"} {}"#, "trailing characters"),
            ("", "expected a JSON object"),
            ("{", "EOF"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_is_as_short_as_what_it_says() {
        let grow = Request::Resize {
            size_bytes: None,
            change_bytes: Some(1 << 30),
            strategy: Some(WishedStrategy::Reflow),
            shrink: false,
            lose_data: false,
            detach: false,
        };
        let text = serde_json::to_string(&grow).unwrap();
        let said = r#"{"request":"resize","change_bytes":1073741824,"strategy":"reflow"}"#;
        assert_eq!(text, said);
        assert_eq!(parsed(said), Ok(grow));
    }
}
