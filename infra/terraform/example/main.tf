# Copy this folder, set the values, keep the state in a bucket of yours.
terraform {
  required_version = ">= 1.9"
  backend "gcs" {} # terraform init -backend-config=bucket=BUCKET -backend-config=prefix=relevance
}

provider "google" {
  project = "example-prod"
  region  = "europe-west4"
}

module "relevance" {
  source           = "../"
  project          = "example-prod"
  prefix           = "example-prod"
  location         = "europe-west4"
  cluster          = "kubeflow"
  cluster_location = "europe-west4"
  gpu_zones        = ["europe-west4-a", "europe-west4-b"]
}

output "relevance" {
  description = "What the overlay and `make compile` need."
  value       = module.relevance
}
