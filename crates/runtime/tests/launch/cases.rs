//! What a container must see, do and leave behind.

mod errors;
mod execs;
mod groups;
mod inside;
mod mounts;
mod speed;

use crate::bed::Bed;

type Case = (&'static str, fn());

/// All cases, by name.
pub const ALL: &[Case] = &[
    ("it_has_its_own_names", inside::it_has_its_own_names),
    ("dev_is_dockers", inside::dev_is_dockers),
    (
        "capabilities_are_those_planned",
        inside::capabilities_are_those_planned,
    ),
    ("the_filter_is_in_force", inside::the_filter_is_in_force),
    ("no_new_privs_is_set", inside::no_new_privs_is_set),
    (
        "users_are_resolved_in_the_image",
        inside::users_are_resolved_in_the_image,
    ),
    (
        "limits_mask_and_score_are_set",
        inside::limits_mask_and_score_are_set,
    ),
    (
        "sysctls_are_the_containers",
        inside::sysctls_are_the_containers,
    ),
    ("loopback_is_up", inside::loopback_is_up),
    ("no_descriptor_leaks_in", inside::no_descriptor_leaks_in),
    (
        "a_terminal_is_the_containers_own",
        inside::a_terminal_is_the_containers_own,
    ),
    ("init_reaps_and_forwards", inside::init_reaps_and_forwards),
    (
        "namespaces_can_be_joined_by_path",
        inside::namespaces_can_be_joined_by_path,
    ),
    (
        "default_mounts_are_dockers",
        mounts::default_mounts_are_dockers,
    ),
    (
        "masked_and_readonly_paths_hold",
        mounts::masked_and_readonly_paths_hold,
    ),
    (
        "a_readonly_root_refuses_writes",
        mounts::a_readonly_root_refuses_writes,
    ),
    ("binds_show_the_host", mounts::binds_show_the_host),
    (
        "links_in_the_image_stay_inside",
        mounts::links_in_the_image_stay_inside,
    ),
    (
        "tmpfs_keeps_the_mode_it_covers",
        mounts::tmpfs_keeps_the_mode_it_covers,
    ),
    (
        "shared_binds_travel_to_the_host",
        mounts::shared_binds_travel_to_the_host,
    ),
    ("two_hundred_layers_mount", mounts::two_hundred_layers_mount),
    ("long_layer_paths_mount", mounts::long_layer_paths_mount),
    (
        "a_directory_can_be_the_root",
        mounts::a_directory_can_be_the_root,
    ),
    (
        "a_missing_workdir_is_made",
        mounts::a_missing_workdir_is_made,
    ),
    (
        "exit_codes_are_the_programs",
        errors::exit_codes_are_the_programs,
    ),
    (
        "lookup_failures_have_gos_words",
        errors::lookup_failures_have_gos_words,
    ),
    (
        "a_bad_format_is_the_programs_output",
        errors::a_bad_format_is_the_programs_output,
    ),
    (
        "unknown_users_have_dockers_words",
        errors::unknown_users_have_dockers_words,
    ),
    (
        "mount_failures_name_both_ends",
        errors::mount_failures_name_both_ends,
    ),
    (
        "a_workdir_outside_the_root_is_refused",
        errors::a_workdir_outside_the_root_is_refused,
    ),
    (
        "failures_leave_nothing_behind",
        errors::failures_leave_nothing_behind,
    ),
    ("an_exec_joins_everything", execs::an_exec_joins_everything),
    (
        "an_exec_has_its_own_options",
        execs::an_exec_has_its_own_options,
    ),
    (
        "an_exec_can_have_a_terminal",
        execs::an_exec_can_have_a_terminal,
    ),
    (
        "exec_failures_are_reported",
        execs::exec_failures_are_reported,
    ),
    ("limits_are_in_force", groups::limits_are_in_force),
    ("devices_are_refused", groups::devices_are_refused),
    (
        "groups_freeze_list_and_kill",
        groups::groups_freeze_list_and_kill,
    ),
    ("memory_kills_are_counted", groups::memory_kills_are_counted),
    ("speed_of_a_launch", speed::speed_of_a_launch),
    ("speed_of_an_exec", speed::speed_of_an_exec),
    ("statistics_are_read", groups::statistics_are_read),
    (
        "a_limit_too_small_to_start_is_an_error",
        groups::a_limit_too_small_to_start_is_an_error,
    ),
    (
        "an_exec_finds_nested_groups",
        groups::an_exec_finds_nested_groups,
    ),
];

/// Runs a shell script and returns its trimmed output.
fn sh(bed: &mut Bed, script: &str) -> String {
    bed.spec["process"]["args"] = serde_json::json!(["sh", "-c", script]);
    let output = bed.run();
    assert_eq!(output.stderr, "", "script {script}");
    output.stdout.trim().to_string()
}
