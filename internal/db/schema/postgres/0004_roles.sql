-- +goose Up

-- The members of groups.
CREATE VIEW core_groupuser (id, group_id, username) AS
    SELECT u.id, g.group_id, u.username FROM auth_user_groups g JOIN auth_user u ON u.id = g.user_id;

-- Roles on objects that go with others, as publications do with their repository.
-- +goose StatementBegin
CREATE FUNCTION core_delete_roles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM core_userrole WHERE object = OLD.id;
    DELETE FROM core_grouprole WHERE object = OLD.id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER core_publication_roles AFTER DELETE ON core_publication FOR EACH ROW EXECUTE FUNCTION core_delete_roles();
CREATE TRIGGER core_repository_roles AFTER DELETE ON core_repository FOR EACH ROW EXECUTE FUNCTION core_delete_roles();
