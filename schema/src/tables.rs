//! The tables as diesel sees them; the migrations make them. Kept below 64 columns on purpose:
//! wider ones double diesel's compile time.

use diesel::{allow_tables_to_appear_in_same_query, table};

table! {
    nodes (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        name -> Nullable<Text>,
        driver -> Text,
        driver_info -> Text,
        driver_internal_info -> Text,
        properties -> Text,
        extra -> Text,
        instance_info -> Text,
        instance_uuid -> Nullable<Text>,
        instance_name -> Nullable<Text>,
        chassis_uuid -> Nullable<Text>,
        provision_state -> Text,
        target_provision_state -> Nullable<Text>,
        provision_updated_at -> Nullable<BigInt>,
        power_state -> Nullable<Text>,
        target_power_state -> Nullable<Text>,
        last_error -> Nullable<Text>,
        reservation -> Nullable<Text>,
        maintenance -> Bool,
        maintenance_reason -> Nullable<Text>,
        fault -> Nullable<Text>,
        console_enabled -> Bool,
        raid_config -> Text,
        target_raid_config -> Text,
        inspection_started_at -> Nullable<BigInt>,
        inspection_finished_at -> Nullable<BigInt>,
        clean_step -> Text,
        deploy_step -> Text,
        service_step -> Text,
        boot_interface -> Nullable<Text>,
        console_interface -> Nullable<Text>,
        deploy_interface -> Nullable<Text>,
        inspect_interface -> Nullable<Text>,
        management_interface -> Nullable<Text>,
        power_interface -> Nullable<Text>,
        raid_interface -> Nullable<Text>,
        vendor_interface -> Nullable<Text>,
        network_interface -> Nullable<Text>,
        storage_interface -> Nullable<Text>,
        rescue_interface -> Nullable<Text>,
        bios_interface -> Nullable<Text>,
        firmware_interface -> Nullable<Text>,
        resource_class -> Nullable<Text>,
        conductor_group -> Text,
        automated_clean -> Nullable<Bool>,
        protected -> Bool,
        protected_reason -> Nullable<Text>,
        retired -> Bool,
        retired_reason -> Nullable<Text>,
        owner -> Nullable<Text>,
        lessee -> Nullable<Text>,
        description -> Nullable<Text>,
        network_data -> Text,
        shard -> Nullable<Text>,
        parent_node -> Nullable<Text>,
        disable_power_off -> Bool,
        boot_mode -> Nullable<Text>,
        secure_boot -> Nullable<Bool>,
        health -> Nullable<Text>,
    }
}

table! {
    ports (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        node_uuid -> Text,
        address -> Text,
        extra -> Text,
        internal_info -> Text,
        local_link_connection -> Text,
        pxe_enabled -> Bool,
        portgroup_uuid -> Nullable<Text>,
        physical_network -> Nullable<Text>,
        is_smartnic -> Bool,
        name -> Nullable<Text>,
        description -> Nullable<Text>,
        vendor -> Nullable<Text>,
        category -> Nullable<Text>,
        available_for_dynamic_portgroup -> Bool,
    }
}

table! {
    node_traits (node_uuid, name) {
        node_uuid -> Text,
        name -> Text,
    }
}

table! {
    conductors (id) {
        id -> BigInt,
        hostname -> Text,
        conductor_group -> Text,
        drivers -> Text,
        online -> Bool,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

table! {
    events (seq) {
        seq -> BigInt,
        node_uuid -> Nullable<Text>,
        at -> BigInt,
        kind -> Text,
        severity -> Text,
        text -> Text,
        data -> Text,
    }
}

table! {
    event_counter (id) {
        id -> BigInt,
        last -> BigInt,
    }
}

table! {
    steps (id) {
        id -> BigInt,
        node_uuid -> Text,
        op -> Text,
        kind -> Text,
        idx -> Integer,
        interface -> Text,
        step -> Text,
        priority -> Integer,
        abortable -> Bool,
        args -> Text,
        resume -> Text,
        state -> Text,
        started_at -> Nullable<BigInt>,
        ended_at -> Nullable<BigInt>,
        checkpoint -> Nullable<Text>,
        error -> Nullable<Text>,
        source -> Text,
        argsinfo -> Text,
        requires_ramdisk -> Bool,
    }
}

table! {
    node_history (id) {
        id -> BigInt,
        uuid -> Text,
        node_uuid -> Text,
        created_at -> BigInt,
        conductor -> Nullable<Text>,
        event_type -> Text,
        severity -> Text,
        event -> Text,
        user_name -> Nullable<Text>,
        project -> Nullable<Text>,
        state -> Nullable<Text>,
        target_provision_state -> Nullable<Text>,
        duration -> Nullable<BigInt>,
    }
}

table! {
    node_inventory (node_uuid) {
        node_uuid -> Text,
        inventory_data -> Text,
        plugin_data -> Text,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
    }
}

table! {
    deploy_templates (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        name -> Text,
        steps -> Text,
        extra -> Text,
    }
}

table! {
    runbooks (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        name -> Text,
        steps -> Text,
        extra -> Text,
        disable_ramdisk -> Bool,
        public -> Bool,
        owner -> Nullable<Text>,
        description -> Nullable<Text>,
    }
}

table! {
    runbook_traits (runbook_uuid, name) {
        runbook_uuid -> Text,
        name -> Text,
    }
}

table! {
    inspection_rules (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        description -> Nullable<Text>,
        priority -> Integer,
        phase -> Text,
        scope -> Nullable<Text>,
        sensitive -> Bool,
        conditions -> Text,
        actions -> Text,
    }
}

table! {
    allocations (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        name -> Nullable<Text>,
        node_uuid -> Nullable<Text>,
        state -> Text,
        owner -> Nullable<Text>,
        resource_class -> Nullable<Text>,
        traits -> Text,
        candidate_nodes -> Text,
        extra -> Text,
        last_error -> Nullable<Text>,
        conductor -> Text,
    }
}

table! {
    bios_settings (node_uuid, name) {
        node_uuid -> Text,
        name -> Text,
        value -> Nullable<Text>,
        attribute_type -> Nullable<Text>,
        allowable_values -> Nullable<Text>,
        lower_bound -> Nullable<BigInt>,
        max_length -> Nullable<BigInt>,
        min_length -> Nullable<BigInt>,
        read_only -> Nullable<Bool>,
        reset_required -> Nullable<Bool>,
        is_unique -> Nullable<Bool>,
        upper_bound -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
    }
}

table! {
    firmware_components (node_uuid, component) {
        node_uuid -> Text,
        component -> Text,
        initial_version -> Text,
        current_version -> Nullable<Text>,
        last_version_flashed -> Nullable<Text>,
        vendor -> Nullable<Text>,
        model -> Nullable<Text>,
        serial_number -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
    }
}

table! {
    chassis (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        description -> Nullable<Text>,
        extra -> Text,
    }
}

table! {
    portgroups (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        node_uuid -> Text,
        name -> Nullable<Text>,
        address -> Nullable<Text>,
        extra -> Text,
        internal_info -> Text,
        standalone_ports_supported -> Bool,
        mode -> Nullable<Text>,
        properties -> Text,
        physical_network -> Nullable<Text>,
        category -> Nullable<Text>,
        dynamic_portgroup -> Bool,
    }
}

table! {
    volume_connectors (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        node_uuid -> Text,
        #[sql_name = "type"]
        kind -> Text,
        connector_id -> Text,
        extra -> Text,
    }
}

table! {
    volume_targets (id) {
        id -> BigInt,
        uuid -> Text,
        generation -> BigInt,
        created_at -> BigInt,
        updated_at -> Nullable<BigInt>,
        node_uuid -> Text,
        volume_type -> Text,
        volume_id -> Text,
        boot_index -> BigInt,
        properties -> Text,
        extra -> Text,
    }
}

allow_tables_to_appear_in_same_query!(
    nodes,
    ports,
    node_traits,
    portgroups,
    volume_connectors,
    volume_targets
);
allow_tables_to_appear_in_same_query!(allocations, conductors);
