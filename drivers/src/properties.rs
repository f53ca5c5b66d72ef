//! The driver_info keys that interfaces read, with the descriptions that `GET /v1/drivers/{driver}/properties` gives.
//! They are wire texts: Ironic's, key for key.

#![cfg_attr(rustfmt, rustfmt_skip)]

use crate::interface::Property;

/// Power, management and vendor methods by IPMI.
pub(crate) static IPMI: &[Property] = &[
    ("ipmi_address", "IP address or hostname of the node. Required."),
    ("ipmi_password", "password. Optional."),
    ("ipmi_hex_kg_key", "Kg key for IPMIv2 authentication. The key is expected in hexadecimal format. Optional."),
    ("ipmi_port", "remote IPMI RMCP port. Optional."),
    ("ipmi_priv_level", "privilege level; default is ADMINISTRATOR. One of ADMINISTRATOR, CALLBACK, OPERATOR, USER. Optional."),
    ("ipmi_username", "username; default is NULL user. Optional."),
    ("ipmi_bridging", "bridging_type; default is \"no\". One of \"single\", \"dual\", \"no\". Optional."),
    ("ipmi_transit_channel", "transit channel for bridged request. Required only if ipmi_bridging is set to \"dual\"."),
    ("ipmi_transit_address", "transit address for bridged request. Required only if ipmi_bridging is set to \"dual\"."),
    ("ipmi_target_channel", "destination channel for bridged request. Required only if ipmi_bridging is set to \"single\" or \"dual\"."),
    ("ipmi_target_address", "destination address for bridged request. Required only if ipmi_bridging is set to \"single\" or \"dual\"."),
    ("ipmi_local_address", "local IPMB address for bridged requests. Used only if ipmi_bridging is set to \"single\" or \"dual\". Optional."),
    ("ipmi_protocol_version", "the version of the IPMI protocol; default is \"2.0\". One of \"1.5\", \"2.0\". Optional."),
    ("ipmi_force_boot_device", "Whether Ironic should specify the boot device to the BMC each time the server is turned on, eg. because the BMC is not capable of remembering the selected boot device across power cycles; default value is False. Optional."),
    ("ipmi_disable_boot_timeout", "By default ironic will send a raw IPMI command to disable the 60 second timeout for booting. Setting this option to False will NOT send that command on this node. The [ipmi]disable_boot_timeout will be used if this option is not set. Optional."),
    ("ipmi_cipher_suite", "The number of a cipher suite to use. Only 3 (AES-128 with SHA1) or 17 (AES-128 with SHA256) should ever be used; 17 is preferred. The default value depends on the ipmitool version, some recent versions have switched from 3 to 17."),
];

/// Consoles by IPMI.
pub(crate) static IPMI_CONSOLE: &[Property] = &[
    ("ipmi_address", "IP address or hostname of the node. Required."),
    ("ipmi_password", "password. Optional."),
    ("ipmi_hex_kg_key", "Kg key for IPMIv2 authentication. The key is expected in hexadecimal format. Optional."),
    ("ipmi_port", "remote IPMI RMCP port. Optional."),
    ("ipmi_priv_level", "privilege level; default is ADMINISTRATOR. One of ADMINISTRATOR, CALLBACK, OPERATOR, USER. Optional."),
    ("ipmi_username", "username; default is NULL user. Optional."),
    ("ipmi_bridging", "bridging_type; default is \"no\". One of \"single\", \"dual\", \"no\". Optional."),
    ("ipmi_transit_channel", "transit channel for bridged request. Required only if ipmi_bridging is set to \"dual\"."),
    ("ipmi_transit_address", "transit address for bridged request. Required only if ipmi_bridging is set to \"dual\"."),
    ("ipmi_target_channel", "destination channel for bridged request. Required only if ipmi_bridging is set to \"single\" or \"dual\"."),
    ("ipmi_target_address", "destination address for bridged request. Required only if ipmi_bridging is set to \"single\" or \"dual\"."),
    ("ipmi_local_address", "local IPMB address for bridged requests. Used only if ipmi_bridging is set to \"single\" or \"dual\". Optional."),
    ("ipmi_protocol_version", "the version of the IPMI protocol; default is \"2.0\". One of \"1.5\", \"2.0\". Optional."),
    ("ipmi_force_boot_device", "Whether Ironic should specify the boot device to the BMC each time the server is turned on, eg. because the BMC is not capable of remembering the selected boot device across power cycles; default value is False. Optional."),
    ("ipmi_disable_boot_timeout", "By default ironic will send a raw IPMI command to disable the 60 second timeout for booting. Setting this option to False will NOT send that command on this node. The [ipmi]disable_boot_timeout will be used if this option is not set. Optional."),
    ("ipmi_cipher_suite", "The number of a cipher suite to use. Only 3 (AES-128 with SHA1) or 17 (AES-128 with SHA256) should ever be used; 17 is preferred. The default value depends on the ipmitool version, some recent versions have switched from 3 to 17."),
    ("ipmi_terminal_port", "node's UDP port to connect to. Only required for console access."),
];

/// Booting over the network.
pub(crate) static PXE: &[Property] = &[
    ("deploy_kernel", "UUID (from Glance) of the deployment kernel. Required."),
    ("deploy_ramdisk", "UUID (from Glance) of the ramdisk with agent that is used at deploy time. Required."),
    ("force_persistent_boot_device", "Controls the persistency of boot order changes. 'Always' will make all changes persistent, 'Default' will make all but the final one upon instance deployment non-persistent, and 'Never' will make no persistent changes at all. The old values 'True' and 'False' are still supported but deprecated in favor of the new ones.Defaults to 'Default'. Optional."),
    ("rescue_kernel", "UUID (from Glance) of the rescue kernel. This value is required for rescue mode."),
    ("rescue_ramdisk", "UUID (from Glance) of the rescue ramdisk with agent that is used at node rescue time. This value is required for rescue mode."),
    ("kernel_append_params", "Additional kernel parameters to pass down to instance kernel. These parameters can be consumed by the kernel or by the applications by reading /proc/cmdline. Mind severe cmdline size limit. When used with virtual media, only applies to ISO images that Ironic builds, but not to pre-built ISOs provided via e.g. deploy_iso. Overrides the [pxe]/kernel_append_params configuration option, use %default% to insert its value."),
];

/// Deploying by an agent.
pub(crate) static AGENT: &[Property] = &[
    ("image_http_proxy", "URL of a proxy server for HTTP connections. Optional."),
    ("image_https_proxy", "URL of a proxy server for HTTPS connections. Optional."),
    ("image_no_proxy", "A comma-separated list of host names, IP addresses and domain names (with optional :port) that will be excluded from proxying. To denote a domain name, use a dot to prefix the domain name. This value will be ignored if ``image_http_proxy`` and ``image_https_proxy`` are not specified. Optional."),
    ("image_download_source", "Specifies whether direct deploy interface should try to use the image source directly or if ironic should cache the image on the conductor and serve it from ironic's own HTTP server. Accepted values are \"swift\", \"http\" and \"local\". Optional."),
    ("deploy_forces_oob_reboot", "Whether Ironic should force a reboot of the Node via the out-of-band channel after deployment is complete. Provides compatibility with older deploy ramdisks. Defaults to False. Optional."),
    ("agent_verify_ca", "Either a Boolean value, a path to a CA_BUNDLE file or directory with certificates of trusted CAs. If set to True ironic will verify the agent's certificate; if False the driver will ignore verifying the SSL certificate. If it's a path the driver will use the specified certificate or one of the certificates in the directory. Defaults to True. Optional"),
];

/// Everything by Redfish.
pub(crate) static REDFISH: &[Property] = &[
    ("redfish_address", "The URL address to the Redfish controller. It must include the authority portion of the URL. If the scheme is missing, https is assumed. For example: https://mgmt.vendor.com. If a path is added, it will be used as the API endpoint root_prefix. Required"),
    ("redfish_system_id", "The canonical path to the ComputerSystem resource that the driver will interact with. It should include the root service, version and the unique resource path to a ComputerSystem within the same authority as the redfish_address property. For example: /redfish/v1/Systems/1. This property is only required if target BMC manages more than one ComputerSystem. Otherwise ironic will pick the only available ComputerSystem automatically."),
    ("redfish_username", "User account with admin/server-profile access privilege. Although this property is not mandatory it's highly recommended to set a username. Optional"),
    ("redfish_password", "User account password. Although this property is not mandatory, it's highly recommended to set a password. Optional"),
    ("redfish_verify_ca", "Either a Boolean value, a path to a CA_BUNDLE file or directory with certificates of trusted CAs. If set to True the driver will verify the host certificates; if False the driver will ignore verifying the SSL certificate. If it's a path the driver will use the specified certificate or one of the certificates in the directory. Defaults to True. Optional"),
    ("redfish_auth_type", "Redfish HTTP client authentication method. Can be \"basic\", \"session\" or \"auto\". If not set, the default value is taken from Ironic configuration as ``[redfish]auth_type`` option."),
    ("firmware_update_unresponsive_bmc_wait", "Number of seconds to wait to avoid the BMC becoming unresponsive during firmware updates. If not set, the default value is taken from the Ironic configuration ``firmware_update_wait_unresponsive_bmc`` in the ``[redfish]`` section."),
    ("redfish_tls_minimum_version", "Minimum TLS protocol version for connections to the Redfish BMC. Can be \"1.1\", \"1.2\", or \"1.3\". If not set, the default value is taken from Ironic configuration as ``[redfish]tls_minimum_version`` option."),
    ("redfish_tls_ciphers", "OpenSSL cipher list to use for connections to the Redfish BMC. If not set, the default value is taken from Ironic configuration as ``[redfish]tls_ciphers`` option."),
];
