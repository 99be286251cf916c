{{- define "gpu-provisioner.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
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
{{- $repository := required "controller.image.repository is not set: name the provisioner's image, such as --set controller.image.repository=registry.example.com/gpu/gpu-provisioner" .Values.controller.image.repository -}}
{{- if .Values.controller.image.digest -}}
{{ $repository }}@{{ .Values.controller.image.digest }}
{{- else -}}
{{ $repository }}:{{ .Values.controller.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The settings of the cluster: NAME: value, or the list that older releases took. */ -}}
{{- define "gpu-provisioner.env" -}}
{{- if kindIs "map" .Values.controller.env -}}
{{- range $name, $value := .Values.controller.env }}
{{- if ne (toString $value) "" }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- else -}}
{{- toYaml .Values.controller.env }}
{{- end -}}
{{- end -}}
