DROP TABLE inspection_rules;
DROP TABLE runbook_traits;
DROP TABLE runbooks;
DROP TABLE deploy_templates;
