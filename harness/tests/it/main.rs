//! The tests of the harness and of the program `ubdlab` as one program, a module a story: what some
//! thirty programs would link once each is linked once.
//! `cargo test -p harness --test it crash_table` runs the modules whose names begin so.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../shared/chain.rs"]
mod chain;
#[path = "../../../userhelper/tests/shared/crafted.rs"]
mod crafted_cow;
#[path = "../../../userhelper/tests/shared/exercise.rs"]
mod exercise;
#[path = "../../../driver/tests/shared/live.rs"]
mod live;
#[path = "../shared/negotiate.rs"]
mod negotiate;
#[path = "../shared/read_trace.rs"]
mod read_trace;
#[path = "../../../userhelper/tests/shared/hosts_agree.rs"]
mod suite;

mod support;
mod world;

mod cli_access_lists;
mod cli_amx_preload;
mod cli_bad_input;
mod cli_bench;
mod cli_fuzz;
mod cli_help;
mod cli_interrupt;
mod cli_io_refused;
mod cli_models;
mod cli_modes;
mod cli_options;
mod cli_outputs;
mod cli_own_files;
mod cli_replay;
mod cli_replay_volumes;
mod cli_traces;
mod cloudphysics;
mod cluster;
mod cluster_image;
mod cluster_kubernetes;
mod crafted;
mod crash_again;
mod crash_commands;
mod crash_directories;
mod crash_ends;
mod crash_keep;
mod crash_kinds;
mod crash_limits;
mod crash_page;
mod crash_programs;
mod crash_rights;
mod crash_rules;
mod crash_table_create;
mod crash_table_headroom;
mod crash_table_publish;
mod crash_table_rebuild;
mod crash_table_reflow;
mod crash_weaken;
mod demonstration_2003;
mod documented_paths;
mod every_order;
mod fuzz_budget;
mod fuzz_checkpoints;
mod fuzz_equal_images;
mod fuzz_exactly;
mod fuzz_excuses;
mod fuzz_failed_syncs;
mod fuzz_false_alarms;
mod fuzz_kernel_defects;
mod fuzz_ordered;
mod fuzz_recorded;
mod fuzz_resize_defects;
mod fuzz_running_kernel;
mod fuzz_shards;
mod fuzz_signatures;
mod fuzz_stories;
mod hostile_text;
mod image_commands;
mod image_crashes;
mod image_faults;
mod image_kill;
mod image_large;
mod image_locks;
mod image_peers;
mod image_pieces;
mod image_races;
mod judge;
mod kernel_against;
mod kernel_astray;
mod kernel_findings;
mod linux_host_operations;
mod merge_memory;
mod model_findings;
mod mount_exercise;
mod mount_hosts_agree;
mod mount_semantics;
mod plain_format;
mod replay_checkpoints;
mod replay_own_file;
mod replay_running_kernel;
mod replay_volumes;
mod report_pages;
mod resize_findings;
mod security_page;
mod serve_clients;
mod serve_control;
mod serve_devices;
mod serve_ends;
mod serve_failed_sync;
mod serve_full_disk;
mod serve_fuse;
mod serve_fuse_beside;
mod serve_fuse_ends;
mod serve_fuse_failed_sync;
mod serve_fuse_loop;
mod serve_handed_over;
mod serve_interrupted;
mod serve_nbd;
mod serve_nbd_abilities;
mod serve_nbd_ends;
mod serve_nbd_extents;
mod serve_nbd_hostile;
mod serve_nbd_kills;
mod serve_peers;
mod serve_record;
mod serve_service_manager;
mod serve_vhost_user;
mod serve_watched_file;
mod shared_device;
mod shared_device_ends;
mod side_by_side;
mod sim_allowance;
mod sim_crash_images;
mod sim_faults;
mod sim_host;
mod sim_hosts_agree;
mod sim_times;
mod sim_tree;
mod stamps_only;
mod trace_bundled;
mod trace_compact;
mod trace_costs;
mod trace_formats;
mod trace_generate;
mod trace_pace;
mod trace_samples;
mod trace_write;
