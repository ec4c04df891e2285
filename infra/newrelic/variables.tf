variable "account_id" {
  description = "Account that the data goes to, and that gets the dashboard and the conditions."
  type        = number
}

variable "policy_name" {
  description = "Name of the alert policy."
  type        = string
  default     = "NRDOT+"
}

variable "runbook_base_url" {
  description = "Where docs/operations.md can be read, as the base of its path; empty: conditions have no link."
  type        = string
  default     = ""
}

variable "without" {
  description = "Names of conditions that are not wanted, such as [\"NrdotLate\"]."
  type        = list(string)
  default     = []
}

variable "aggregation_timer" {
  description = "Seconds without another point after which a window is taken for complete: more than telemetry.otlp.interval."
  type        = number
  default     = 120
}

variable "violation_time_limit_seconds" {
  description = "How long an incident may stay open."
  type        = number
  default     = 259200
}
