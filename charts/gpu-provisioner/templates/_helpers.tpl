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
{{- range $key, $item := .Values.controller.env }}
{{- if not (kindIs "map" $item) }}
- name: {{ $key }}
  value: {{ $item | quote }}
{{- else if hasKey $item "valueFrom" }}
- {{- toYaml $item | nindent 2 }}
{{- else }}
- name: {{ $item.name }}
  value: {{ $item.value | quote }}
{{- end }}
{{- end }}
{{- end -}}
