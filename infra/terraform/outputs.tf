output "service_accounts" {
  description = "Values of the annotation iam.gke.io/gcp-service-account, for the overlay's identities.yaml."
  value       = { for name, account in google_service_account.workload : "relevance-${name}" => account.email }
}

output "workspaces" {
  description = "What `make compile PROFILE=cluster WORKSPACE=` takes."
  value       = [for workspace in var.workspaces : "${google_storage_bucket.workspace.url}/${workspace}"]
}

output "logs" {
  description = "Where the shop's logging writes."
  value       = google_storage_bucket.logs.url
}

output "mlflow" {
  description = "Literals of the config map mlflow-server, for the overlay."
  value = {
    artifacts_destination = "${google_storage_bucket.mlflow.url}/artifacts"
    backup_destination    = "${google_storage_bucket.mlflow.url}/backup"
  }
}
