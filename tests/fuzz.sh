#!/usr/bin/env bash
# Looks for inputs that break what reads bytes from anyone: every target of fuzz/ for FUZZ_SECONDS (600), one after another,
# or only those named as arguments; then the property tests, with FUZZ_CASES cases each instead of hundreds.
#
# libFuzzer needs switches that the stable compiler keeps to itself; RUSTC_BOOTSTRAP lets it take them. What was learnt is
# kept in fuzz/corpus, what breaks in fuzz/artifacts; neither is committed: a finding becomes a test.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
seconds=${FUZZ_SECONDS:-600}
targets=("$@")
[ $# -gt 0 ] || targets=(stack_file interpolation dotenv grammars dockerfile unpack)
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

seed() { # TARGET: a corpus to start from: what the tests load, and the conformance cases where they are
  local corpus=fuzz/corpus/$1 file number=0
  mkdir -p "$corpus"
  case $1 in
    stack_file)
      sed -n '/^const SAMPLE/,/^"#;/p' tests/spec/hostile.rs | sed '1d;$d' >"$corpus/sample"
      for file in examples/*/*.y*ml ../shared/conformance/config/trees/*/*.y*ml; do
        [ ! -f "$file" ] || cp "$file" "$corpus/seed-$((number += 1))"
      done ;;
    interpolation)
      for text in '${A:-${B:-$E}}' '$A-b $$ ${E:+x} ${N?no}' '${A:?m ${N-d}}' '${N:-{"a": {}}}'; do
        printf %s "$text" >"$corpus/seed-$((number += 1))"
      done ;;
    dotenv)
      printf 'A=1\nB="$A ${C:-x} \\n"\nexport D='\''a\nb'\'' # c\nE: x # y\nF\n' >"$corpus/seed-1"
      for file in ../shared/conformance/config/trees/*/*.env ../shared/conformance/config/trees/*/.env; do
        [ ! -f "$file" ] || cp "$file" "$corpus/seed-$((number += 2))"
      done ;;
    grammars)
      for text in 8080:80/udp 127.0.0.1:5000-5001:80-81 '[::1]::80' ./a:/b:ro,z data:/d 1h30m 1.5s 1w2d 512m 1.5GiB 0644 \
        'sh -c "echo a" && x' "a'b c'\\ d"; do
        printf %s "$text" >"$corpus/seed-$((number += 1))"
      done ;;
    dockerfile)
      sed -n '/^const SAMPLE/,/^"#;/p' src/images/dockerfile/parser/hostile.rs | sed '1d;$d' >"$corpus/sample"
      for file in examples/stacks/*/*/Dockerfile; do cp "$file" "$corpus/seed-$((number += 1))"; done ;;
    unpack)
      local tree
      tree=$(mktemp -d)
      (
        cd "$tree"
        mkdir -p d/e "$(printf 'l%.0s' {1..120})"
        echo content >d/file
        echo x >"$(printf 'l%.0s' {1..120})/$(printf 'n%.0s' {1..120})"
        ln d/file d/link && ln -s ../../canary/file d/out && ln -s /canary canary
        touch d/.wh.gone d/.wh..wh..opq && mkfifo fifo && truncate -s 1M sparse && echo y >>sparse
        tar --format v7 -cf "$top/$corpus/seed-v7" d canary
        for format in ustar gnu oldgnu; do tar --format $format -cf "$top/$corpus/seed-$format" d fifo canary; done
        tar --format gnu -cf "$top/$corpus/seed-long" .
        for version in 0.0 0.1 1.0; do
          tar --format pax -S --sparse-version $version --xattrs -cf "$top/$corpus/seed-pax-$version" .
        done
        tar --format gnu -S -cf "$top/$corpus/seed-sparse" sparse
      )
      rm -rf "$tree" ;;
  esac
}

for target in "${targets[@]}"; do
  seed "$target"
  echo "==== $target, for $seconds s"
  # No sanitizer: there is no unsafe code to watch. What is slow or large is a finding too.
  cargo fuzz run --fuzz-dir "$top/fuzz" --sanitizer none "$target" -- \
    -max_total_time="$seconds" -max_len=20000 -timeout=60 -rss_limit_mb=512 -print_final_stats=1
done
unset RUSTC_BOOTSTRAP
[ $# -eq 0 ] || exit 0

export PROPTEST_CASES=${FUZZ_CASES:-20000}
echo "==== property tests with $PROPTEST_CASES cases each, without coverage guidance"
cargo test --locked --release --lib -- panics converge any_bytes places
cargo test --locked --release --test spec -- hostile
