# Sourced by run.sh: builds with a context of 2,000 files, nothing changed and one file changed with three RUN steps after it.
project=build
mkdir -p "$work/build/files"
for i in $(seq 2000); do echo "file $i" > "$work/build/files/$i.txt"; done
echo 0 > "$work/build/changed.txt"
cat > "$work/build/Dockerfile" <<'D'
FROM busybox
COPY files /files
COPY changed.txt /changed.txt
RUN cat /changed.txt > /one
RUN cat /one /one > /two
RUN cat /two /two > /three
D
printf 'services:\n  app:\n    build: .\n    command: sleep infinity\n' > "$work/build/compose.yaml"
build() { compose "$1" build; }
built() { quiet compose "$1" build; }
change() { quiet compose "$1" build; changes=$((${changes:-0} + 1)); echo "$changes $(now)" > "$work/build/changed.txt"; }
measure 'build, nothing changed (2,000 files)' '<= 1/8' built build
measure 'build, one file changed, three RUN after it' '<= 1/8' change build

# A context that is only stat-ed.
mkdir -p "$work/large"
for directory in $(seq 250); do
  mkdir -p "$work/large/files/$directory"
  for i in $(seq 200); do echo "$directory $i" > "$work/large/files/$directory/$i"; done
done
printf 'FROM busybox\nCOPY files /files\n' > "$work/large/Dockerfile"
cp "$work/build/compose.yaml" "$work/large/compose.yaml"
project=large; saved=$peer; peer=
measure 'build, nothing changed (50,000 files)' '< 400 ms' built build
peer=$saved
peak=$(cd "$work/large" && python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$binary" build)
awk -v kb="$peak" 'BEGIN { printf "%-52s %10.1f MB %13s     %-8s %s\n", "  memory at most", kb / 1024, "-", "-", "< 50 MB" }'
