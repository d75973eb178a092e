variable "project" {
  description = "Google Cloud project that holds the cluster and the buckets."
  type        = string
}

variable "location" {
  description = "Where the buckets lie: the cluster's region, so that reading them costs nothing."
  type        = string
}

variable "prefix" {
  description = "Beginning of every bucket name, because these are global; for instance the project's name."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}$", var.prefix))
    error_message = "prefix must be lower case letters, digits and hyphens, at most 39 characters, beginning with a letter."
  }
}

variable "labels" {
  description = "Labels on everything that can carry them, for the bill."
  type        = map(string)
  default     = { app = "relevance-distillery" }
}

variable "workspaces" {
  description = "Workspaces, as folders of the workspace bucket (`make compile WORKSPACE=gs://<bucket>/<workspace>`)."
  type        = list(string)
  default     = ["runs/nightly"]
  validation {
    condition     = length(var.workspaces) > 0 && alltrue([for one in var.workspaces : startswith(one, "runs/") && !endswith(one, "/")])
    error_message = "every workspace must begin with 'runs/' and must not end with '/'."
  }
}

variable "expiring_sections" {
  description = "Sections of a workspace that are made anew every night, whose outputs are deleted after keep_days. Never name a student's: the registry points into its folder."
  type        = list(string)
  default = [
    "failures", "logs", "neighbors", "pool", "ranking_bi_encoder", "ranking_champion", "ranking_cross_encoder", "ranking_teacher",
    "ranking_untrained", "scoring", "teacher", "tracking",
  ]
  validation {
    condition     = length(setintersection(var.expiring_sections, ["bi_encoder", "cross_encoder", "student_encoder"])) == 0
    error_message = "students must not expire: the registered champion is a folder of theirs."
  }
}

variable "keep_days" {
  description = "Days after which outputs of expiring sections are deleted. Whatever is needed again is made again."
  type        = number
  default     = 30
  validation {
    condition     = var.keep_days >= 7
    error_message = "keep_days must be at least 7: a run that goes on for days must not lose its inputs."
  }
}

variable "log_retention_days" {
  description = "Days for which raw search logs cannot be deleted or changed, and after which they are deleted (agree on it with privacy)."
  type        = number
  default     = 120
}

variable "backup_keep_days" {
  description = "Days for which dumps of MLflow's database are kept."
  type        = number
  default     = 35
}

variable "cluster" {
  description = "Name of the GKE cluster; it must have Workload Identity."
  type        = string
}

variable "cluster_location" {
  description = "Region or zone of the GKE cluster."
  type        = string
}

variable "gpu_zones" {
  description = "Zones of the region that have the GPUs."
  type        = list(string)
}

variable "gpu_machine_type" {
  description = "Machine type of a GPU node; it decides how many GPUs a node has."
  type        = string
  default     = "a2-highgpu-8g"
}

variable "gpu_type" {
  description = "GPUs of that machine type."
  type        = string
  default     = "nvidia-tesla-a100"
}

variable "gpus_per_node" {
  description = "Number of GPUs of that machine type."
  type        = number
  default     = 8
}

variable "max_gpu_nodes" {
  description = "Most GPU nodes at a time; there are none while nothing runs. Keep it in step with the quota of infra/base/queues.yaml."
  type        = number
  default     = 2
}

variable "spot" {
  description = "Whether GPU nodes are spot: cheaper, and taken away at any time, which costs one shard or the steps since a checkpoint."
  type        = bool
  default     = true
}
