# Three buckets, by who may read: raw logs (personal data), workspaces (scrubbed), MLflow.

locals {
  expiring = flatten([for workspace in var.workspaces : [for section in var.expiring_sections : "${workspace}/${section}/"]])
}

resource "google_storage_bucket" "logs" {
  project                     = var.project
  name                        = "${var.prefix}-relevance-logs"
  location                    = var.location
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  retention_policy { # not locked: a request to delete a person's data can still be met by an administrator
    retention_period = var.log_retention_days * 86400
  }
  lifecycle_rule {
    action { type = "Delete" }
    condition { age = var.log_retention_days + 1 }
  }
  lifecycle {
    prevent_destroy = true
  }
}

# No retention policy here: steps replace small objects (tables' temporary files, notes of what was sent).
resource "google_storage_bucket" "workspace" {
  project                     = var.project
  name                        = "${var.prefix}-relevance-workspace"
  location                    = var.location
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }
  soft_delete_policy {
    retention_duration_seconds = 7 * 86400
  }
  lifecycle_rule {
    action { type = "Delete" }
    condition {
      age            = var.keep_days
      matches_prefix = local.expiring
    }
  }
  lifecycle_rule { # what was replaced or deleted
    action { type = "Delete" }
    condition {
      days_since_noncurrent_time = 7
      with_state                 = "ARCHIVED"
    }
  }
  lifecycle_rule { # uploads that a killed task left half done
    action { type = "AbortIncompleteMultipartUpload" }
    condition { age = 2 }
  }
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_storage_bucket" "mlflow" {
  project                     = var.project
  name                        = "${var.prefix}-relevance-mlflow"
  location                    = var.location
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }
  lifecycle_rule {
    action { type = "Delete" }
    condition {
      age            = var.backup_keep_days
      matches_prefix = ["backup/"]
    }
  }
  lifecycle_rule {
    action { type = "Delete" }
    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }
  lifecycle {
    prevent_destroy = true
  }
}

# Where champions lie: a managed folder, so that serving may read this and nothing else of the workspace.
resource "google_storage_managed_folder" "students" {
  for_each = toset(flatten([for workspace in var.workspaces : [for student in ["bi_encoder", "cross_encoder"] : "${workspace}/${student}/"]]))
  bucket   = google_storage_bucket.workspace.name
  name     = each.value
}
