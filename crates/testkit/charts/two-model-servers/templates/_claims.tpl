{{/* The claim of a server: (list $ "inference" .Values.inferenceCapability) */}}
{{- define "two-model-servers.claim" -}}
{{- $root := index . 0 -}}
{{- $server := index . 2 -}}
{{- $made := printf "%s-models" $root.Release.Name -}}
{{- if eq $root.Values.persistence.mode "separate" -}}
{{- $made = printf "%s-%s-models" $root.Release.Name (index . 1) -}}
{{- end -}}
{{- $server.existingClaim | default $made -}}
{{- end -}}
