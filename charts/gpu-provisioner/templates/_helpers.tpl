{{- define "gpu-provisioner.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gpu-provisioner.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "gpu-provisioner.fullname" .) -}}
{{- end -}}

{{- /* The name in the code's default, so that a process started by hand competes for the same lease. */ -}}
{{- define "gpu-provisioner.leaseName" -}}
gpu-provisioner
{{- end -}}

{{- define "gpu-provisioner.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpu-provisioner.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "gpu-provisioner.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "gpu-provisioner.image" -}}
{{- $image := .Values.controller.image -}}
{{- $repository := required "controller.image.repository is not set: name the provisioner's image, such as --set controller.image.repository=registry.example.com/gpu/gpu-provisioner" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* The environment as a map: what the chart decides, overlaid by controller.env. */ -}}
{{- define "gpu-provisioner.env" -}}
{{- $env := dict
  "DEPLOYMENT_MODE" .Values.deploymentMode
  "CLAIM_API" .Values.settings.claimApi
  "POOL_MODE" .Values.settings.poolMode
  "EMPTY_POOL_DELAY" .Values.settings.emptyPoolDelay
  "LAUNCH_TIMEOUT" .Values.settings.launchTimeout
  "REGISTRATION_TIMEOUT" .Values.settings.registrationTimeout
  "ON_TIMEOUT" .Values.settings.onTimeout
  "ON_INSUFFICIENT_CAPACITY" .Values.settings.onInsufficientCapacity
  "LEADER_ELECT" (toString .Values.leaderElection.enabled)
  "LEADER_ELECTION_NAME" (include "gpu-provisioner.leaseName" .)
  "LEADER_ELECTION_NAMESPACE" .Release.Namespace
  "METRICS_PORT" (toString .Values.controller.metrics.port)
  "HEALTH_PROBE_PORT" (toString .Values.controller.healthProbe.port)
  "LOG_LEVEL" .Values.logLevel
  "LOG_FORMAT" .Values.logEncoding
-}}
{{- with .Values.settings.azure.clusterName }}{{ $_ := set $env "AZURE_CLUSTER_NAME" . }}{{ end -}}
{{- if .Values.workloadIdentity.projectToken -}}
{{- $_ := set $env "AZURE_FEDERATED_TOKEN_FILE" "/var/run/secrets/azure/tokens/azure-identity-token" -}}
{{- with .Values.workloadIdentity.clientId }}{{ $_ := set $env "AZURE_CLIENT_ID" . }}{{ end -}}
{{- with .Values.workloadIdentity.tenantId }}{{ $_ := set $env "AZURE_TENANT_ID" . }}{{ end -}}
{{- end -}}
{{- if .Values.caBundle }}{{ $_ := set $env "SSL_CERT_FILE" "/etc/gpu-provisioner/ca/ca.crt" }}{{ end -}}
{{- range $key, $item := .Values.controller.env -}}
{{- $name := $key -}}
{{- $value := $item -}}
{{- if kindIs "map" $item }}{{ $name = $item.name }}{{ $value = $item.value | default "" }}{{ end -}}
{{- if ne (toString $value) "" }}{{ $_ := set $env (toString $name) (toString $value) }}{{ end -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}
