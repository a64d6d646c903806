#!/usr/bin/env bash
# Installs the real tools the demo and the tests attack and defend with, where they are missing (Debian packages).
set -eu
declare -A package_of=(
    [ip]=iproute2 [nft]=nftables [nmap]=nmap [hping3]=hping3 [hydra]=hydra [sshd]=openssh-server [sysctl]=procps
    [tcpreplay]=tcpreplay [tcpdump]=tcpdump [capinfos]=tshark [iptables]=iptables [ipset]=ipset
    [firewalld]=firewalld [ufw]=ufw [dbus-daemon]=dbus-daemon [faketime]=faketime
    [crowdsec-firewall-bouncer]=crowdsec-firewall-bouncer [fail2ban-server]=fail2ban [nginx]=nginx-light [caddy]=caddy
)
missing=()
for tool in "${!package_of[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null || missing+=("${package_of[$tool]}")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
here=$(dirname "$0")
if ! command -v apt-get >/dev/null; then
    echo "missing tools: install the packages ${missing[*]} with your distribution's package manager" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A server that is only installed for the tests must not start on this machine.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "$here/as-root.sh" tee "$policy" >/dev/null
    "$here/as-root.sh" chmod 755 "$policy"
    made_policy=yes
fi
trap '[ -z "$made_policy" ] || "$here/as-root.sh" rm -f "$policy"' EXIT
"$here/as-root.sh" apt-get update -qq
"$here/as-root.sh" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
