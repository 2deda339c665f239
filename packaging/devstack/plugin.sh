# shellcheck shell=bash
# magnumd in devstack. stack.sh sources this file once for each phase, with its name.

# Our ports: clients, etcd discovery, nodes.
MAGNUM_NODE_PORTS="9512 9513"

function is_magnum_enabled {
    is_service_enabled magnum-api magnum-cond
}

function magnum_is_tls {
    is_ssl_enabled_service magnum || is_service_enabled tls-proxy
}

# The program, from MAGNUM_BINARY or from these sources.
function install_magnum {
    sudo install -d -o "$STACK_USER" "$MAGNUM_BIN_DIR"
    if [[ -n "${MAGNUM_BINARY:-}" ]]; then
        install -m 755 "$MAGNUM_BINARY" "$MAGNUM_BIN_DIR/magnumd"
        return
    fi
    if ! type -p cargo >/dev/null; then
        die $LINENO "magnumd is built with Rust, and there is no cargo: install it, or set MAGNUM_BINARY"
    fi
    cargo build --locked --release --no-default-features --features journald,etcd-v3 \
        --manifest-path "$MAGNUM_DIR/Cargo.toml"
    install -m 755 "${CARGO_TARGET_DIR:-$MAGNUM_DIR/target}/release/magnumd" "$MAGNUM_BIN_DIR/magnumd"
}

function install_magnumclient {
    if use_library_from_git python-magnumclient; then
        git_clone_by_name python-magnumclient
        setup_dev_lib python-magnumclient
    else
        pip_install_gr python-magnumclient
    fi
}

# magnum_set SECTION KEY TEXT: a literal string of TOML, in which nothing has to be escaped
function magnum_set {
    if [[ "$3" == *"'"* ]]; then
        die $LINENO "$2 of [$1] in $MAGNUM_CONF cannot hold a single quote"
    fi
    iniset "$MAGNUM_CONF" "$1" "$2" "'$3'"
}

# The configuration with devstack's passwords and addresses; accounts and the rest are setup's.
function configure_magnum {
    sudo install -d -o "$STACK_USER" -m 750 "$MAGNUM_CONF_DIR"
    install -m 600 "$MAGNUM_DIR/config/magnumd.toml" "$MAGNUM_CONF"
    magnum_set keystone auth_url "$KEYSTONE_SERVICE_URI/v3"
    magnum_set keystone password "$SERVICE_PASSWORD"
    magnum_set trust admin_password "$MAGNUM_TRUSTEE_DOMAIN_ADMIN_PASSWORD"
    magnum_set storage path "$MAGNUM_STATE_PATH"
    magnum_set api listen "0.0.0.0:$MAGNUM_SERVICE_PORT"
    if magnum_is_tls; then
        # magnumd speaks TLS itself; a proxy before it has nothing to add.
        magnum_set api.tls cert "${MAGNUM_SSL_CERT:-$DEVSTACK_CERT}"
        magnum_set api.tls key "${MAGNUM_SSL_KEY:-$DEVSTACK_CERT}"
        magnum_set clients.default ca_file "$SSL_BUNDLE_FILE"
    fi
    if [[ "${ENABLE_DEBUG_LOG_LEVEL:-False}" == "True" ]]; then
        magnum_set log level "info,magnumd=debug"
    fi
}

# Service user, trustee domain, its administrator and the entry in the catalogue.
function create_magnum_accounts {
    OS_CLOUD=${MAGNUM_ADMIN_CLOUD:-devstack-admin} "$MAGNUM_BIN_DIR/magnumd" setup --yes \
        --config "$MAGNUM_CONF" --address "$MAGNUM_SERVICE_HOST" --user magnum \
        --project "$SERVICE_PROJECT_NAME" --domain magnum --region "$REGION_NAME"
}

# magnum_os_distro URL: as images of that distribution are marked for magnumd
function magnum_os_distro {
    local distribution
    for distribution in ubuntu debian rocky; do
        if [[ "${1,,}" == *"$distribution"* ]]; then
            echo "${distribution/rocky/rockylinux}"
            return
        fi
    done
    return 1
}

# magnum_image_name URL: what devstack names the image of that file
function magnum_image_name {
    local file=${1##*/} extension
    file=${file%%\?*}
    for extension in tar.gz img.gz img.bz2 img.xz vhd.gz vhdx.gz tgz img qcow2 raw iso vhd vhdx; do
        if [[ "$file" == *".$extension" ]]; then
            echo "${file%."$extension"}"
            return
        fi
    done
    return 1
}

function magnum_register_image {
    local name distribution properties
    name=$(magnum_image_name "$MAGNUM_GUEST_IMAGE_URL") ||
        die $LINENO "MAGNUM_GUEST_IMAGE_URL: $MAGNUM_GUEST_IMAGE_URL does not end like an image"
    distribution=${MAGNUM_GUEST_IMAGE_OS_DISTRO:-$(magnum_os_distro "$MAGNUM_GUEST_IMAGE_URL")} ||
        die $LINENO "MAGNUM_GUEST_IMAGE_URL names no distribution that magnumd knows: set MAGNUM_GUEST_IMAGE_OS_DISTRO"
    properties=(--property "os_distro=$distribution")
    if [[ -n "${MAGNUM_GUEST_IMAGE_KUBE_VERSION:-}" ]]; then
        properties+=(--property "kube_version=$MAGNUM_GUEST_IMAGE_KUBE_VERSION")
    fi
    openstack image set "${properties[@]}" "$name"
}

function start_magnum {
    local protocol=http
    if magnum_is_tls; then
        protocol=https
    fi
    sudo install -d -o "$STACK_USER" -m 700 "$MAGNUM_STATE_PATH"
    run_process magnum-api "$MAGNUM_BIN_DIR/magnumd serve --config $MAGNUM_CONF"
    if ! wait_for_service "$SERVICE_TIMEOUT" "$protocol://$MAGNUM_SERVICE_HOST:$MAGNUM_SERVICE_PORT"; then
        die $LINENO "magnumd did not start; see journalctl --unit devstack@magnum-api"
    fi
}

# Nodes reach us from their own networks.
function configure_iptables_magnum {
    local port
    if [[ "$MAGNUM_CONFIGURE_IPTABLES" == "False" ]]; then
        return
    fi
    for port in $MAGNUM_SERVICE_PORT $MAGNUM_NODE_PORTS; do
        sudo iptables -C INPUT -d "$HOST_IP" -p tcp --dport "$port" -j ACCEPT 2>/dev/null ||
            sudo iptables -I INPUT -d "$HOST_IP" -p tcp --dport "$port" -j ACCEPT
    done
}

function stop_magnum {
    stop_process magnum-api
}

# The state and the configuration; the program stays for the next stack.sh.
function cleanup_magnum {
    sudo rm -rf "$MAGNUM_STATE_PATH" "$MAGNUM_CONF"
}

if is_magnum_enabled; then
    case "$1 ${2:-}" in
        "stack install")
            echo_summary "Installing magnumd"
            install_magnum
            install_magnumclient
            if [[ -n "${MAGNUM_GUEST_IMAGE_URL:-}" ]]; then
                IMAGE_URLS+=",$MAGNUM_GUEST_IMAGE_URL"
            fi ;;
        "stack post-config")
            echo_summary "Configuring magnumd"
            configure_magnum ;;
        "stack extra")
            echo_summary "Starting magnumd"
            create_magnum_accounts
            if [[ -n "${MAGNUM_GUEST_IMAGE_URL:-}" ]]; then
                magnum_register_image
            fi
            start_magnum
            configure_iptables_magnum ;;
        "unstack ") stop_magnum ;;
        "clean ") cleanup_magnum ;;
    esac
fi
