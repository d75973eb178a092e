#!/usr/bin/env bash
# Makes the secrets that the manifests and pipelines/placement.py name, with random values. What exists is never changed: a new salt would
# give every client another hash, a new database password would lock MLflow out. Values pass through pipes only, never through arguments.
set -euo pipefail

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

exists() { kubectl --namespace "$1" get secret "$2" --output name > /dev/null 2>&1; }

create() { # NAMESPACE NAME, lines key=value on standard input
    kubectl --namespace "$1" create secret generic "$2" --from-env-file=/dev/stdin
}

once() { # NAMESPACE NAME, lines key=value on standard input
    if exists "$1" "$2"; then
        cat > /dev/null # else the writer dies of a closed pipe
        echo "secret $1/$2 stands; left as it is"
    else
        create "$1" "$2"
    fi
}

for namespace in relevance relevance-mlflow; do
    kubectl get namespace "$namespace" --output name > /dev/null || { echo "error: no namespace $namespace; see README.md, step 3" >&2; exit 2; }
done

printf 'salt=%s\n' "$(random)" | once relevance log-client-salt
printf 'password=%s\n' "$(random)" | once relevance-mlflow mlflow-postgres
printf 'admin_password=%s\nflask_secret_key=%s\n' "$(random)" "$(random)" | once relevance-mlflow mlflow-server
printf 'username=exporter\npassword=%s\n' "$(random)" | once relevance-mlflow mlflow-exporter

# the pipeline's user, once for the job that makes it in MLflow and once for the tasks: both or neither
if exists relevance-mlflow mlflow-credentials && exists relevance mlflow-credentials; then
    echo "secrets mlflow-credentials stand; left as they are"
elif exists relevance-mlflow mlflow-credentials || exists relevance mlflow-credentials; then
    echo "error: mlflow-credentials stands in only one of relevance and relevance-mlflow; copy it to the other, or delete it" >&2
    exit 2
else
    password=$(random)
    for namespace in relevance-mlflow relevance; do
        printf 'username=pipeline\npassword=%s\n' "$password" | create "$namespace" mlflow-credentials
    done
fi
