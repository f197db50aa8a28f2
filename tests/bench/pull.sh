# Sourced by run.sh: pulls one 66 MB gzip layer (180 MB) from a registry on this machine, and an image of twelve such layers.
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
python3 "$here/push.py" "$work/oci" "$work/layer.tar" "$work/layer.tar.gz"
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

# Twelve layers of the same files in directories of their own: as many downloads, decompressions and trees.
twelve=()
for i in $(seq 12); do
  tar -C / --transform "s,^,layer-$i/," -cf "$work/layer-$i.tar" -T "$work/pull-list"
  gzip -6 -k "$work/layer-$i.tar"
  twelve+=("$work/layer-$i.tar" "$work/layer-$i.tar.gz")
done
python3 "$here/push.py" "$work/oci-12" "${twelve[@]}"
skopeo copy -q --dest-tls-verify=false "oci:$work/oci-12" "docker://127.0.0.1:$port/bench:twelve"
rm -rf "${twelve[@]}" "$work/oci-12"
image=127.0.0.1:$port/bench:twelve
remove_last() { [ "$pulls" = 0 ] || rm -rf "$work/pull-root-$pulls"; unpulled "$1"; }
measured_runs=$runs; [ "$runs" -le 2 ] || runs=2
measure 'pull and unpack twelve gzip layers' '<= 1/3' remove_last pull
all_cores=$last
one_core() { taskset -c 0 "$binary" --root "$work/pull-root-$pulls" image pull "$image"; }
saved=$peer; peer=; measure '  the same on one core (server and all on the rest)' '' remove_last one_core; peer=$saved
runs=$measured_runs
awk -v one="$last" -v all="$all_cores" -v cores="$(nproc)" \
  'BEGIN { printf "%-52s %10.2f x with %d cores\n", "  twelve layers: one core against all", one / all, cores }'
# Peak memory, whatever the image.
remove_last ours
[ ! -x /usr/bin/time ] || /usr/bin/time -f '%M' -o "$work/memory" "$binary" --root "$work/pull-root-$pulls" image pull -q "$image" >/dev/null
[ ! -f "$work/memory" ] || awk '{ printf "%-52s %10.1f MB %29s\n", "  peak memory of that pull", $1 / 1024, "<= 64 MB" }' "$work/memory"
remove_last ours
