# Sourced by run.sh: pulls one 66 MB gzip layer (180 MB) from a registry on this machine.
# The tree is what the machine has beneath /usr, cut at 180 MB: real files of real sizes.
tree=$work/pull-tree
mkdir -p "$tree" "$work/registry"
(cd / && find usr/lib/x86_64-linux-gnu usr/share usr/lib/python3* -xdev -type f -size -2000k -printf '%s\t%p\n' 2>/dev/null | sort -t '	' -k2 \
  | awk -F '\t' '{ sum += $1 } sum <= 180e6 { print $2 }') > "$work/pull-list"
tar -C / -cf "$work/layer.tar" -T "$work/pull-list"
gzip -6 -k "$work/layer.tar"
printf '%-52s %s\n' '  the layer' "$(stat -c %s "$work/layer.tar.gz") bytes of $(stat -c %s "$work/layer.tar")"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$work/registry.yml" <<D
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
log: {level: error, accesslog: {disabled: true}}
D
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 & registry_pid=$!
timeout 20 sh -c "until curl -sf http://127.0.0.1:$port/v2/ >/dev/null; do :; done"
python3 "$here/push.py" "$work/layer.tar" "$work/layer.tar.gz" "$work/oci"
skopeo copy -q --dest-tls-verify=false "oci:$work/oci" "docker://127.0.0.1:$port/bench:latest"
image=127.0.0.1:$port/bench:latest
pull() { if [ "$1" = ours ]; then "$binary" --root "$work/pull-root-$pulls" image pull "$image"; else ${peer% compose} pull -q "$image"; fi; }
unpulled() {
  pulls=$((${pulls:-0} + 1))
  [ "$1" = ours ] || ${peer% compose} image rm -f "$image" >/dev/null 2>&1 || true
}
measure 'pull and unpack one gzip layer' '<= 1/3' unpulled pull
pulled=$last
gunzip_tar() { mkdir -p "$work/plain-$pulls"; gunzip -c "$work/layer.tar.gz" | tar -C "$work/plain-$pulls" -xf -; }
saved=$peer; peer=; measure '  the same by gunzip | tar' 'ours must not be slower' unpulled gunzip_tar; peer=$saved
