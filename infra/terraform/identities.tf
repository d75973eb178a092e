# One Google service account per Kubernetes service account of infra/; no keys exist.

locals {
  identities = {
    pipeline = { namespace = "relevance", does = "Tasks of the pipeline: read logs, write workspaces." }
    trainer  = { namespace = "relevance", does = "Ranks of a TrainJob: write workspaces." }
    mlflow   = { namespace = "relevance-mlflow", does = "MLflow and its backup: write the MLflow bucket." }
    serving  = { namespace = "relevance-serving", does = "KServe: read students." }
  }
  member = { for name, account in google_service_account.workload : name => "serviceAccount:${account.email}" }
}

resource "google_service_account" "workload" {
  for_each     = local.identities
  project      = var.project
  account_id   = "relevance-${each.key}"
  display_name = "relevance-${each.key}"
  description  = each.value.does
}

resource "google_service_account_iam_member" "workload" {
  for_each           = local.identities
  service_account_id = google_service_account.workload[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${each.value.namespace}/relevance-${each.key}]"
}

resource "google_storage_bucket_iam_member" "pipeline_reads_logs" {
  bucket = google_storage_bucket.logs.name
  role   = "roles/storage.objectViewer"
  member = local.member["pipeline"]
}

resource "google_storage_bucket_iam_member" "workspace" {
  for_each = toset(["pipeline", "trainer"])
  bucket   = google_storage_bucket.workspace.name
  role     = "roles/storage.objectUser"
  member   = local.member[each.value]
}

resource "google_storage_bucket_iam_member" "mlflow" {
  bucket = google_storage_bucket.mlflow.name
  role   = "roles/storage.objectUser"
  member = local.member["mlflow"]
}

resource "google_storage_managed_folder_iam_member" "serving_reads_students" {
  for_each       = google_storage_managed_folder.students
  bucket         = each.value.bucket
  managed_folder = each.value.name
  role           = "roles/storage.objectViewer"
  member         = local.member["serving"]
}

# Nodes write logs and metrics and pull images; they read no bucket of ours.
resource "google_service_account" "node" {
  project      = var.project
  account_id   = "relevance-gpu-node"
  display_name = "relevance-gpu-node"
  description  = "GPU nodes themselves; pods have their own identities."
}

resource "google_project_iam_member" "node" {
  for_each = toset(["roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader"])
  project  = var.project
  role     = each.value
  member   = "serviceAccount:${google_service_account.node.email}"
}
