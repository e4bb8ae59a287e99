#!/usr/bin/env bash
# Builds, labels and tags the images: `make images`, or images/build.sh [--push] [NAME...]
#
# Environment: ENGINE (docker, podman or buildah; the first one found), REGISTRY (prefix of the names),
# TAG (the project's version), PYTHON_BASE and TRITON_BASE (other bases), DATA=0 (a pipeline image
# without the packaged text encoder and example events), SOURCE (URL for the label), IMAGE_FLAGS
# (more flags for the engine's build).
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "images: $*" >&2; exit 1; }

push=no
names=()
for argument in "$@"; do
	case $argument in
		--push) push=yes ;;
		pipeline | transformer | triton) names+=("$argument") ;;
		*) die "there is no image '$argument': pipeline, transformer and triton are" ;;
	esac
done
[ ${#names[@]} -gt 0 ] || names=(pipeline transformer triton)

[ "$push" = no ] || [ -n "${REGISTRY:-}" ] ||
	die "name where to push: make push-images REGISTRY=registry.example/team"

engine=${ENGINE:-}
for candidate in docker podman buildah; do
	[ -n "$engine" ] || ! command -v "$candidate" > /dev/null || engine=$candidate
done
[ -n "$engine" ] || die "neither docker nor podman (nor buildah) is installed; install one, or name it: make images ENGINE=/path/to/podman"
command -v "$engine" > /dev/null || die "ENGINE=$engine is no command here"
"$engine" info > /dev/null 2>&1 ||
	die "'$engine info' fails: start its daemon, or choose another by ENGINE=podman"
kind=$(basename "$engine")

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=${TAG:-$version}
prefix=${REGISTRY:+${REGISTRY%/}/}kuberec
# Of a checkout; a release archive has none. Credentials in a remote's URL stay out of the label.
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
[ -z "$(git status --porcelain 2> /dev/null)" ] || revision+=-dirty
created=$(git log -1 --format=%cI 2> /dev/null || date -u +%Y-%m-%dT%H:%M:%SZ)
source=${SOURCE:-$({ git remote get-url origin 2> /dev/null || true; } | sed -n 's#^https://\([^/@]*@\)\{0,1\}#https://#p')}

label=org.opencontainers.image
labels=(
	--label "$label.version=$version" --label "$label.created=$created"
	--label "$label.source=${source:-unknown}" --build-arg "KUBEREC_REVISION=$revision"
)
for name in "${names[@]}"; do
	flags=("${labels[@]}")
	base=${PYTHON_BASE:-}
	[ "$name" != triton ] || base=${TRITON_BASE:-}
	[ -z "$base" ] || flags+=(--build-arg "BASE=$base")
	[ "$name" != pipeline ] || [ "${DATA:-1}" != 0 ] || flags+=(--build-arg DATA=)
	# Layers are kept between builds; buildah asks for that.
	[ "$kind" != buildah ] || flags+=(--layers)
	# shellcheck disable=SC2206  # flags, split at spaces
	flags+=(${IMAGE_FLAGS:-})
	echo "images: building $prefix/$name:$tag with $kind"
	"$engine" build "${flags[@]}" -f "images/$name/Dockerfile" -t "$prefix/$name:$tag" .
done

if [ "$push" = no ]; then
	echo
	echo "Built for this machine:"
	for name in "${names[@]}"; do echo "  $prefix/$name:$tag"; done
	echo "A cluster takes them from a registry, by digest: make push-images REGISTRY=registry.example/team"
	exit
fi

digests=()
file=$(mktemp)
trap 'rm -f "$file"' EXIT
for name in "${names[@]}"; do
	if [ "$kind" = docker ]; then
		full=$prefix/$name
		"$engine" push "$full:$tag"
		"$engine" inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$full:$tag" |
			sed -n "s#^$full@##p" > "$file"
	else
		"$engine" push --digestfile "$file" "$prefix/$name:$tag"
	fi
	digests+=("$name $(head -n 1 "$file")")
done
echo
echo "Pushed. A digest cannot change under a running cluster, so name images by it:"
for line in "${digests[@]}"; do
	read -r name digest <<< "$line"
	echo "  $prefix/$name@$digest"
	[ "$name" != pipeline ] || compile="kuberec compile CONFIG.yaml --image $prefix/$name@$digest"
done
[ -z "${compile:-}" ] || printf '\n  %s\n' "$compile"
