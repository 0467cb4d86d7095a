//! What may be asked of the host, by name: the words in which logs, fault rules, counters, stories
//! and errors speak of operations.

use std::fmt;

/// What an operation asks of the host, without where and with which bytes. Each is a method of the
/// seams: of [`HostFile`](super::HostFile), for which [`Action`](super::Action) is the value, or of
/// [`HostNames`](super::HostNames) and what userhelper asks for beside it. The last five no driver
/// asks for: they are what other programs ask of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the methods of the seams are")]
pub enum OperationKind {
    Read,
    Write,
    SyncData,
    Len,
    SetLen,
    PunchHole,
    ZeroRange,
    CloneRange,
    NextData,
    Open,
    CreateNew,
    GiveMode,
    Metadata,
    CopyAttributes,
    SetModified,
    Lock,
    Rename,
    Remove,
    SyncDirectory,
    Allocate,
    CopyRange,
    MakeDirectory,
    Link,
    SetAttributes,
}

use OperationKind::*;

impl OperationKind {
    /// Every kind, in the order of the enumeration.
    pub const ALL: [OperationKind; 24] = [
        Read,
        Write,
        SyncData,
        Len,
        SetLen,
        PunchHole,
        ZeroRange,
        CloneRange,
        NextData,
        Open,
        CreateNew,
        GiveMode,
        Metadata,
        CopyAttributes,
        SetModified,
        Lock,
        Rename,
        Remove,
        SyncDirectory,
        Allocate,
        CopyRange,
        MakeDirectory,
        Link,
        SetAttributes,
    ];

    /// Whether a crash before and a crash after it can leave different disks. The
    /// others matter for the moment of a crash only by what the process does between.
    #[inline]
    pub fn is_change(self) -> bool {
        match self {
            Write | SyncData | SetLen | PunchHole | ZeroRange | CloneRange => true,
            CreateNew | CopyAttributes | SetModified | Rename | Remove | SyncDirectory => true,
            Allocate | CopyRange | MakeDirectory | Link | SetAttributes => true,
            Read | Len | NextData | Open | GiveMode | Metadata | Lock => false,
        }
    }

    /// Its name in files: one word, which no later version changes.
    pub fn name(self) -> &'static str {
        match self {
            Read => "read",
            Write => "write",
            SyncData => "sync_data",
            Len => "length",
            SetLen => "set_length",
            PunchHole => "punch_hole",
            ZeroRange => "zero_range",
            CloneRange => "clone_range",
            NextData => "next_data",
            Open => "open",
            CreateNew => "create_new",
            GiveMode => "give_mode",
            Metadata => "metadata",
            CopyAttributes => "copy_attributes",
            SetModified => "set_modified",
            Lock => "lock",
            Rename => "rename",
            Remove => "remove",
            SyncDirectory => "sync_directory",
            Allocate => "allocate",
            CopyRange => "copy_range",
            MakeDirectory => "make_directory",
            Link => "link",
            SetAttributes => "set_attributes",
        }
    }

    /// The kind that has this [name](OperationKind::name).
    pub fn from_name(name: &str) -> Option<OperationKind> {
        OperationKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// In words, for a person: `sync data`.
impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncData => "sync data",
            SetLen => "set length",
            PunchHole => "punch hole",
            ZeroRange => "zero range",
            CloneRange => "clone range",
            NextData => "next data",
            CreateNew => "create",
            GiveMode => "give mode",
            CopyAttributes => "copy attributes",
            SetModified => "set modified",
            SyncDirectory => "sync directory",
            CopyRange => "copy range",
            MakeDirectory => "make directory",
            SetAttributes => "set attributes",
            Allocate | Link => self.name(),
            Read | Write | Len | Open | Metadata | Lock | Rename | Remove => self.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_as_files_have_them_and_lead_back_to_their_kinds() {
        assert_eq!(
            OperationKind::ALL.map(OperationKind::name),
            [
                "read",
                "write",
                "sync_data",
                "length",
                "set_length",
                "punch_hole",
                "zero_range",
                "clone_range",
                "next_data",
                "open",
                "create_new",
                "give_mode",
                "metadata",
                "copy_attributes",
                "set_modified",
                "lock",
                "rename",
                "remove",
                "sync_directory",
                "allocate",
                "copy_range",
                "make_directory",
                "link",
                "set_attributes",
            ]
        );
        for kind in OperationKind::ALL {
            assert_eq!(OperationKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(OperationKind::from_name("sync data"), None);
    }

    /// A kind that is added does not compile here until it has a place, and has none but in `ALL`.
    #[test]
    fn all_are_listed_in_order() {
        let after = |kind| match kind {
            Read => Some(Write),
            Write => Some(SyncData),
            SyncData => Some(Len),
            Len => Some(SetLen),
            SetLen => Some(PunchHole),
            PunchHole => Some(ZeroRange),
            ZeroRange => Some(CloneRange),
            CloneRange => Some(NextData),
            NextData => Some(Open),
            Open => Some(CreateNew),
            CreateNew => Some(GiveMode),
            GiveMode => Some(Metadata),
            Metadata => Some(CopyAttributes),
            CopyAttributes => Some(SetModified),
            SetModified => Some(Lock),
            Lock => Some(Rename),
            Rename => Some(Remove),
            Remove => Some(SyncDirectory),
            SyncDirectory => Some(Allocate),
            Allocate => Some(CopyRange),
            CopyRange => Some(MakeDirectory),
            MakeDirectory => Some(Link),
            Link => Some(SetAttributes),
            SetAttributes => None,
        };
        let listed: Vec<_> = std::iter::successors(Some(Read), |kind| after(*kind)).collect();
        assert_eq!(listed, OperationKind::ALL);
        assert!(listed.is_sorted());
    }
}
